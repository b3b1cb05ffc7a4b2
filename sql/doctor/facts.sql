-- What the catalog says of our relations ($1), functions ($2), schemas ($3) and roles ($4), in the words of sql/.
with roles as (
  select oid, rolname::text as name from pg_catalog.pg_roles where rolname = any ($4)
   union all
  select 0, 'public'
),
relations as (
  select c.oid, c.relkind, c.relowner, c.relacl, c.relrowsecurity, c.reloptions, n.nspname || '.' || c.relname as name
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
   where n.nspname || '.' || c.relname = any ($1)
),
functions as (
  select p.oid, p.proowner, p.proacl, n.nspname || '.' || p.proname as name
    from pg_catalog.pg_proc as p
    join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
   where n.nspname || '.' || p.proname = any ($2)
),
privileges (object, owner, acl) as (
  select name, relowner, relacl from relations
   union all
  select 'function ' || name, proowner, coalesce(proacl, pg_catalog.acldefault('f', proowner)) from functions
   union all
  select 'schema ' || nspname, nspowner, nspacl from pg_catalog.pg_namespace where nspname = any ($3)
)
select 'grant ' || lower(acl.privilege_type) || ' on ' || object || ' to ' || roles.name as fact
  from privileges
 cross join pg_catalog.aclexplode(acl) as acl
  join roles on roles.oid = acl.grantee
 -- What an owner may do goes without saying.
 where acl.grantee <> owner
 union all
select 'grant ' || lower(acl.privilege_type) || ' (' || a.attname || ') on ' || relations.name || ' to ' || roles.name
  from relations
  join pg_catalog.pg_attribute as a on a.attrelid = relations.oid and not a.attisdropped
 cross join pg_catalog.aclexplode(a.attacl) as acl
  join roles on roles.oid = acl.grantee
 union all
select 'policy ' || quote_ident(p.polname) || ' on ' || relations.name
  from relations
  join pg_catalog.pg_policy as p on p.polrelid = relations.oid
 union all
select 'trigger ' || quote_ident(t.tgname) || ' on ' || relations.name
  from relations
  join pg_catalog.pg_trigger as t on t.tgrelid = relations.oid and not t.tgisinternal and t.tgenabled in ('O', 'A')
 union all
select 'alter table ' || name || ' enable row level security'
  from relations
 where relrowsecurity
 union all
select 'alter function ' || functions.name || ' owner to ' || o.rolname
  from functions
  join pg_catalog.pg_roles as o on o.oid = functions.proowner
 where o.rolname = any ($4)
 union all
select 'alter view ' || name || ' set (security_invoker = true)'
  from relations
 where relkind = 'v'
   and reloptions @> array['security_invoker=true']
