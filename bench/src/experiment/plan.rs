//! The plan of the list query, as PostgreSQL explains it.

use serde::Deserialize;

use crate::run::Plan;
use crate::tables::Tables;

/// The table whose scan is reported.
const TABLE: &str = "housing_property";

#[derive(Debug, Deserialize)]
struct Explanation {
    #[serde(rename = "Plan")]
    plan: Node,
    #[serde(rename = "Execution Time")]
    execution_ms: f64,
}

#[derive(Debug, Deserialize)]
struct Node {
    #[serde(rename = "Node Type")]
    kind: String,
    #[serde(rename = "Relation Name")]
    relation: Option<String>,
    #[serde(rename = "Index Name")]
    index: Option<String>,
    /// The rows of each loop: a parallel scan has one loop for each process.
    #[serde(rename = "Actual Rows")]
    rows: f64,
    #[serde(rename = "Actual Loops")]
    loops: f64,
    #[serde(rename = "Plans", default)]
    below: Vec<Node>,
}

impl Node {
    fn scan_of(&self, table: &str) -> Option<&Self> {
        if self.relation.as_deref() == Some(table) {
            return Some(self);
        }
        self.below.iter().find_map(|node| node.scan_of(table))
    }
}

/// Parses the plan that psql printed; `None` if it is not a plan of the table.
pub(super) fn parse(printed: &str, tables: Tables) -> Option<Plan> {
    let [explanation]: [Explanation; 1] = serde_json::from_str(printed).ok()?;
    let scan = explanation.plan.scan_of(TABLE)?;
    Some(Plan {
        tables,
        scan: scan.kind.clone(),
        index: scan.index.clone(),
        rows: scan.rows * scan.loops,
        execution_ms: explanation.execution_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Indexes;

    const TABLES: Tables = Tables { properties: 5000, indexes: Indexes::None };

    #[test]
    fn the_scan_is_found_below_sort_and_limit() {
        let printed = r#"[{"Plan": {"Node Type": "Limit", "Actual Rows": 20, "Actual Loops": 1, "Plans": [
            {"Node Type": "Sort", "Actual Rows": 20, "Actual Loops": 1, "Sort Key": ["created_at DESC"], "Plans": [
            {"Node Type": "Seq Scan", "Relation Name": "housing_property", "Actual Rows": 2500.0, "Actual Loops": 2}]}]},
            "Planning Time": 0.1, "Execution Time": 1.25}]"#;
        let plan = parse(printed, TABLES).unwrap();
        assert_eq!((plan.scan.as_str(), plan.index, plan.rows), ("Seq Scan", None, 5000.0));
        assert_eq!(plan.execution_ms, 1.25);
    }

    #[test]
    fn output_without_a_plan_of_the_table_is_none() {
        for printed in ["", "[]", "QUERY PLAN", r#"[{"Plan": {"Node Type": "Result"}, "Execution Time": 1}]"#]
        {
            assert_eq!(parse(printed, TABLES), None, "{printed}");
        }
    }
}
