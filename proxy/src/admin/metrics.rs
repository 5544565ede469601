//! Writes the figures for Prometheus. Each answer has all families, each with HELP and TYPE, even if nothing was counted yet.

mod origins;
mod parts;
mod process;
mod requests;
mod text;

use super::view::View;
use process::{process, unix};
pub(super) use text::Exposition;
use text::Text;

/// All families.
pub(super) fn text(view: &View, exposition: Exposition) -> String {
    let mut text = Text::new(exposition);
    requests::requests(&view.report, &mut text);
    requests::clients(&view.clients, &mut text);
    requests::certificates(&view.certificates, &mut text);
    parts::store(&view.report, &mut text);
    parts::operations(&view.report, &mut text);
    parts::near(&view.report, &mut text);
    parts::purges(&view.report, &mut text);
    parts::follows(&view.report, &mut text);
    parts::fills(&view.report, &mut text);
    origins::origins(&view.report, &mut text);
    program(view, &mut text);
    process(view.started.time, &mut text);
    text.finish()
}

fn program(view: &View, text: &mut Text) {
    let build = [("version", View::VERSION), ("revision", View::REVISION)];
    text.gauges("cachepage_build_info", "The version that runs.").sample(&build, 1);
    let help = "Whether the last reading of the settings was without a fault.";
    text.gauge("cachepage_config_last_reload_successful", help, u8::from(view.is_last_reload_good));
    let help = "When the settings were last read without a fault.";
    text.gauge("cachepage_config_last_reload_success_timestamp_seconds", help, unix(view.settings.loaded_at));
    let help = "Lines of the access log that could not be written.";
    text.counter("cachepage_log_lines_dropped_total", help, view.log_lines_dropped);
}
