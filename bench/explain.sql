-- What PostgreSQL does for one page of the listing: psql "$DATABASE_URL" -f bench/explain.sql
--
-- Without an index on created_at (seed --indexes none, the default) both plans read the whole table and sort it to find
-- 20 rows. After seed --indexes optimized they take the 20 newest rows from the index.

\echo 'The list query, as the naive page sends it first'
EXPLAIN (ANALYZE, BUFFERS)
SELECT id, title, description, property_type, price, bedrooms, bathrooms,
       location_id, agent_id, status, view_count, created_at
FROM housing_property
ORDER BY created_at DESC
LIMIT 20;

\echo 'One of the 60 lookups that follow it'
EXPLAIN (ANALYZE, BUFFERS)
SELECT id, city, state, zip_code
FROM housing_location
WHERE id = (SELECT min(location_id) FROM housing_property);

\echo 'The optimized page: the same rows with their location, agent and office in one query'
EXPLAIN (ANALYZE, BUFFERS)
SELECT property.*, location.*, agent.*, office.*
FROM housing_property AS property
JOIN housing_location AS location ON location.id = property.location_id
JOIN housing_agent AS agent ON agent.id = property.agent_id
JOIN housing_office AS office ON office.id = agent.office_id
ORDER BY property.created_at DESC
LIMIT 20;
