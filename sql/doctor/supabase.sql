-- What Supabase adds: storage, and the functions for recordings that no policy there calls; Realtime's publication.
-- to_regclass would need USAGE on the schema, which the service's role does not have.
with storage as (
  select c.oid, c.relname
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
   where n.nspname = 'storage'
)
select exists (select from storage where relname = 'buckets'),
       (
         select string_agg(rule, ', ' order by rule)
           from unnest(array['may_delete_recording', 'may_read_recording', 'may_upload_recording']) as rule
          where not exists (
            select from pg_catalog.pg_policy as p
             where p.polrelid in (select oid from storage where relname = 'objects')
               and concat(pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
                   like '%private.' || rule || '(%'
          )
       ),
       exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime'),
       (
         select string_agg(p.tablename, ', ' order by p.tablename)
           from pg_catalog.pg_publication_tables as p
          where p.pubname = 'supabase_realtime'
            and p.schemaname = 'public'
       )
