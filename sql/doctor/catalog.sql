-- The catalog's description of our relations and types ($1), functions ($2), schemas ($3) and roles ($4): the name of
-- each object and its properties. How PostgreSQL writes them depends on settings: sql/doctor/settings.sql.
with roles as (
  select oid, rolname::text as name from pg_catalog.pg_roles where rolname = any ($4)
   union all
  select 0, 'public'
),
-- The role that ran the migrations. Its name is not always the same.
owner as (
  select nspowner as oid from pg_catalog.pg_namespace where nspname = 'private'
),
relations as (
  select c.*, n.nspname || '.' || c.relname as name
    from pg_catalog.pg_class as c
    join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
   where n.nspname || '.' || c.relname = any ($1)
     and c.relkind in ('r', 'p', 'v', 'm', 'S')
),
functions as (
  select p.*, n.nspname || '.' || p.proname as name
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
),
facts (subject, detail) as (
  select format('grant %s on %s to %s', lower(acl.privilege_type), object, roles.name), null
    from privileges
   cross join pg_catalog.aclexplode(acl) as acl
    join roles on roles.oid = acl.grantee
   -- The owner's own privileges are left out.
   where acl.grantee <> owner
   union all
  select format('grant %s (%s) on %s to %s', lower(acl.privilege_type), a.attname, relations.name, roles.name), null
    from relations
    join pg_catalog.pg_attribute as a on a.attrelid = relations.oid and not a.attisdropped
   cross join pg_catalog.aclexplode(a.attacl) as acl
    join roles on roles.oid = acl.grantee
   union all
  select format('alter table %s enable row level security', name), null
    from relations
   where relrowsecurity
   union all
  select format('alter view %s set (security_invoker = true)', name), null
    from relations
   where reloptions @> array['security_invoker=true']
   union all
  select format('policy %I on %s', p.polname, relations.name),
         format('%s for %s to %s using (%s) with check (%s)', case when p.polpermissive then 'permissive' else 'restrictive' end,
           p.polcmd,
           (select string_agg(case role when 0 then 'public' else role::regrole::text end, ', ' order by role::regrole::text)
              from unnest(p.polroles) as role),
           pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
    from relations
    join pg_catalog.pg_policy as p on p.polrelid = relations.oid
   union all
  -- A restored dump groups conditions by other brackets.
  select format('trigger %I on %s', t.tgname, relations.name), translate(pg_catalog.pg_get_triggerdef(t.oid), '()', '')
    from relations
    join pg_catalog.pg_trigger as t on t.tgrelid = relations.oid and not t.tgisinternal and t.tgenabled in ('O', 'A')
   union all
  -- PostgreSQL's own, which hold foreign keys.
  select format('alter table %s enable trigger all', name), null
    from relations
   where relkind in ('r', 'p')
     and not exists (
       select from pg_catalog.pg_trigger as t
        where t.tgrelid = relations.oid
          and t.tgisinternal
          and t.tgenabled not in ('O', 'A')
     )
   union all
  select format('rule %I on %s', r.rulename, relations.name), null
    from relations
    join pg_catalog.pg_rewrite as r on r.ev_class = relations.oid and r.rulename <> '_RETURN'
   union all
  select 'function ' || f.name,
         format('(%s) returns %s, %s, %s%s%s, %s, owner %s, body %s', pg_catalog.pg_get_function_arguments(f.oid),
           pg_catalog.pg_get_function_result(f.oid), l.lanname, f.provolatile, case when f.proisstrict then ' strict' end,
           case when f.prosecdef then ' security definer' end, array_to_string(f.proconfig, ' '),
           coalesce(roles.name, 'another'), md5(f.prosrc))
    from functions as f
    join pg_catalog.pg_language as l on l.oid = f.prolang
    left join roles on roles.oid = f.proowner
   union all
  select format('%s %s', case relkind when 'v' then 'view' when 'm' then 'view' when 'S' then 'sequence' else 'table' end, relations.name),
         concat_ws(', ', 'owner ' || case when relowner = owner.oid then 'of schema private' else coalesce(roles.name, 'another') end,
           case when relpersistence <> 'p' then 'unlogged' end, case when relforcerowsecurity then 'forced' end,
           -- Newer versions of PostgreSQL qualify columns only where they must.
           'query ' || md5(regexp_replace(pg_catalog.pg_get_viewdef(relations.oid), '\s+|\m\w+\.(?!\w+\()', '', 'g')))
    from relations
   cross join owner
    left join roles on roles.oid = relowner
   union all
  select format('column %s.%s', relations.name, a.attname),
         concat_ws(' ', pg_catalog.format_type(a.atttypid, a.atttypmod), case when a.attnotnull then 'not null' end,
           case when a.attgenerated <> '' then 'generated' end, case when a.attidentity <> '' then 'identity' end,
           'default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid))
    from relations
    join pg_catalog.pg_attribute as a on a.attrelid = relations.oid and a.attnum > 0 and not a.attisdropped
    left join pg_catalog.pg_attrdef as d on d.adrelid = a.attrelid and d.adnum = a.attnum
   where relkind <> 'S'
   union all
  select format('constraint %I on %s', c.conname, relations.name),
         regexp_replace(pg_catalog.pg_get_constraintdef(c.oid), ' NOT VALID$', '')
    from relations
    join pg_catalog.pg_constraint as c on c.conrelid = relations.oid
   where c.contype in ('c', 'f', 'p', 'u', 'x')
   union all
  select format('index %I on %s', c.relname, relations.name), pg_catalog.pg_get_indexdef(i.indexrelid)
    from relations
    join pg_catalog.pg_index as i on i.indrelid = relations.oid and i.indisvalid
    join pg_catalog.pg_class as c on c.oid = i.indexrelid
   where not exists (select from pg_catalog.pg_constraint as made where made.conindid = i.indexrelid and made.contype in ('p', 'u', 'x'))
   union all
  select format('type %s.%s', n.nspname, t.typname), string_agg(quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
    from pg_catalog.pg_type as t
    join pg_catalog.pg_namespace as n on n.oid = t.typnamespace
    join pg_catalog.pg_enum as e on e.enumtypid = t.oid
   where n.nspname || '.' || t.typname = any ($1)
   group by n.nspname, t.typname
)
select subject, regexp_replace(detail, '\s+', ' ', 'g')
  from facts
 order by subject collate "C"
