-- What the functions of these names do.
select n.nspname || '.' || p.proname, p.prosrc
  from pg_catalog.pg_proc as p
  join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
 where n.nspname || '.' || p.proname = any ($1)
