-- What Supabase adds: storage, and the publication of its Realtime.
select to_regclass('storage.buckets') is not null,
       exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime'),
       (
         select string_agg(p.tablename, ', ' order by p.tablename)
           from pg_catalog.pg_publication_tables as p
          where p.pubname = 'supabase_realtime'
            and p.schemaname = 'public'
       )
