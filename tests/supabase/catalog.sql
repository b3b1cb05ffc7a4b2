-- The whole catalog of a migrated database as lines of text, to be compared with another's. One query that
-- only reads, prints no OID, and names everything with its schema if the search path is empty when it runs:
--   PGOPTIONS='-c search_path=' psql -XAtf tests/supabase/catalog.sql
-- It leaves out PostgreSQL's own objects, temporary objects, and the two tables of migration history (refinery's and
-- the Supabase CLI's), which differ between the two ways of migrating.
with schemas as (
  select n.oid, n.nspname, n.nspowner, n.nspacl
    from pg_catalog.pg_namespace as n
   where n.nspname !~ '^pg_'
     and n.nspname not in ('information_schema', 'supabase_migrations')
),
relations as (
  select c.*, pg_catalog.format('%I.%I', s.nspname, c.relname) as name
    from pg_catalog.pg_class as c
    join schemas as s on s.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S', 'c')
     and not (s.nspname = 'private' and c.relname = 'migration_history')
),
functions as (
  select p.*, p.oid::pg_catalog.regprocedure::text as name
    from pg_catalog.pg_proc as p
    join schemas as s on s.oid = p.pronamespace
),
types as (
  select t.*, pg_catalog.format('%I.%I', s.nspname, t.typname) as name
    from pg_catalog.pg_type as t
    join schemas as s on s.oid = t.typnamespace
   where t.typelem = 0
     and (t.typrelid = 0 or t.typrelid in (select oid from relations where relkind = 'c'))
),
our_roles as (
  select r.*
    from pg_catalog.pg_roles as r
   where r.rolname !~ '^pg_'
     and r.rolname <> current_user
),
-- Owner and privileges of all objects that have them. An absent list of privileges means the defaults.
privileged (kind, name, owner, acl) as (
  select 'schema', pg_catalog.quote_ident(nspname), nspowner,
         coalesce(nspacl, pg_catalog.acldefault('n', nspowner))
    from schemas
   union all
  select 'relation', name, relowner,
         coalesce(relacl, pg_catalog.acldefault((case when relkind = 'S' then 's' else 'r' end)::"char", relowner))
    from relations
   where relkind <> 'c'
   union all
  select 'column', pg_catalog.format('%s.%I', r.name, a.attname), r.relowner, a.attacl
    from relations as r
    join pg_catalog.pg_attribute as a on a.attrelid = r.oid
   where not a.attisdropped
     and a.attacl is not null
   union all
  select 'function', name, proowner, coalesce(proacl, pg_catalog.acldefault('f', proowner))
    from functions
   union all
  select 'type', name, typowner, coalesce(typacl, pg_catalog.acldefault('T', typowner))
    from types
),
lines (section, name, line) as (
  select 10, name, pg_catalog.format('%s %s owner %s', kind, name, pg_catalog.pg_get_userbyid(owner))
    from privileged
   where kind <> 'column'
   union all
  select 11, p.name, pg_catalog.format('%s %s grant %s to %s by %s%s', p.kind, p.name, a.privilege_type,
         case a.grantee when 0 then 'public' else pg_catalog.pg_get_userbyid(a.grantee)::text end,
         pg_catalog.pg_get_userbyid(a.grantor), case when a.is_grantable then ' with grant option' end)
    from privileged as p, pg_catalog.aclexplode(p.acl) as a
   union all
  select 12, pg_catalog.pg_get_userbyid(d.defaclrole)::text,
         pg_catalog.format('default privileges for %s in %s on %s: %s to %s%s',
         pg_catalog.pg_get_userbyid(d.defaclrole), coalesce(n.nspname, '(any schema)'), d.defaclobjtype,
         a.privilege_type,
         case a.grantee when 0 then 'public' else pg_catalog.pg_get_userbyid(a.grantee)::text end,
         case when a.is_grantable then ' with grant option' end)
    from pg_catalog.pg_default_acl as d
    left join pg_catalog.pg_namespace as n on n.oid = d.defaclnamespace,
         pg_catalog.aclexplode(d.defaclacl) as a
   union all
  select 20, name, pg_catalog.format('relation %s kind %s persistence %s rls %s forced %s options %s', name,
         relkind, relpersistence, relrowsecurity, relforcerowsecurity, coalesce(reloptions::text, '{}'))
    from relations
   union all
  select 21, name, pg_catalog.format('view %s as %s', name, pg_catalog.pg_get_viewdef(oid))
    from relations
   where relkind in ('v', 'm')
   union all
  select 22, r.name, pg_catalog.format('column %s %s %I %s%s%s%s%s%s storage %s', r.name,
         pg_catalog.lpad((pg_catalog.row_number() over (partition by r.oid order by a.attnum))::text, 3),
         a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
         case when a.attcollation not in (0, t.typcollation) then ' collate ' || pg_catalog.quote_ident(c.collname) end,
         case when a.attnotnull then ' not null' end,
         case when a.attgenerated <> '' then ' generated ' || a.attgenerated::text end,
         case when a.attidentity <> '' then ' identity ' || a.attidentity::text end,
         ' default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), a.attstorage)
    from relations as r
    join pg_catalog.pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
    join pg_catalog.pg_type as t on t.oid = a.atttypid
    left join pg_catalog.pg_collation as c on c.oid = a.attcollation
    left join pg_catalog.pg_attrdef as d on d.adrelid = r.oid and d.adnum = a.attnum
   union all
  select 30, r.name, pg_catalog.format('constraint on %s %I %s%s', r.name, k.conname,
         pg_catalog.pg_get_constraintdef(k.oid), case when not k.convalidated then ' not valid' end)
    from relations as r
    join pg_catalog.pg_constraint as k on k.conrelid = r.oid
   union all
  select 31, r.name, pg_catalog.format('index on %s %s%s', r.name, pg_catalog.pg_get_indexdef(i.indexrelid),
         case when not i.indisvalid then ' invalid' end)
    from relations as r
    join pg_catalog.pg_index as i on i.indrelid = r.oid
   union all
  select 40, r.name, pg_catalog.format('policy on %s %I %s for %s to %s using (%s) with check (%s)', r.name,
         p.polname, case when p.polpermissive then 'permissive' else 'restrictive' end, p.polcmd,
         (select pg_catalog.string_agg(
                   case role when 0 then 'public' else pg_catalog.pg_get_userbyid(role)::text end,
                   ', ' order by pg_catalog.pg_get_userbyid(role))
            from pg_catalog.unnest(p.polroles) as role),
         pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
    from relations as r
    join pg_catalog.pg_policy as p on p.polrelid = r.oid
   union all
  select 41, r.name, pg_catalog.format('trigger on %s enabled %s %s', r.name, t.tgenabled,
         pg_catalog.pg_get_triggerdef(t.oid))
    from relations as r
    join pg_catalog.pg_trigger as t on t.tgrelid = r.oid
   where not t.tgisinternal
   union all
  select 42, r.name, pg_catalog.format('rule on %s %s', r.name, pg_catalog.pg_get_ruledef(w.oid))
    from relations as r
    join pg_catalog.pg_rewrite as w on w.ev_class = r.oid
   where w.rulename <> '_RETURN'
   union all
  select 50, name, pg_catalog.format('function %s is %s', name, pg_catalog.pg_get_functiondef(oid))
    from functions
   where prokind in ('f', 'p')
   union all
  select 51, name, pg_catalog.format('%s %s', case prokind when 'a' then 'aggregate' else 'window function' end, name)
    from functions
   where prokind not in ('f', 'p')
   union all
  select 60, name, pg_catalog.format('type %s kind %s%s%s', name, typtype,
         ' of ' || pg_catalog.format_type(nullif(typbasetype, 0), typtypmod),
         ' labels ' || (select pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel), ', ' order by e.enumsortorder)
                          from pg_catalog.pg_enum as e
                         where e.enumtypid = types.oid))
    from types
   union all
  select 61, t.name, pg_catalog.format('constraint on domain %s %I %s', t.name, k.conname,
         pg_catalog.pg_get_constraintdef(k.oid))
    from types as t
    join pg_catalog.pg_constraint as k on k.contypid = t.oid
   union all
  select 70, x.name, pg_catalog.format('comment on %s %s is %L', x.kind, x.name, d.description)
    from (
      select 'schema' as kind, pg_catalog.quote_ident(nspname) as name, oid, 0 as part,
             'pg_catalog.pg_namespace'::pg_catalog.regclass as class
        from schemas
       union all
      select 'relation', name, oid, 0, 'pg_catalog.pg_class'::pg_catalog.regclass from relations
       union all
      select 'column', pg_catalog.format('%s.%I', r.name, a.attname), r.oid, a.attnum,
             'pg_catalog.pg_class'::pg_catalog.regclass
        from relations as r
        join pg_catalog.pg_attribute as a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
       union all
      select 'function', name, oid, 0, 'pg_catalog.pg_proc'::pg_catalog.regclass from functions
       union all
      select 'type', name, oid, 0, 'pg_catalog.pg_type'::pg_catalog.regclass from types
       union all
      select 'policy', pg_catalog.format('%s.%I', r.name, p.polname), p.oid, 0,
             'pg_catalog.pg_policy'::pg_catalog.regclass
        from relations as r
        join pg_catalog.pg_policy as p on p.polrelid = r.oid
       union all
      select 'trigger', pg_catalog.format('%s.%I', r.name, t.tgname), t.oid, 0,
             'pg_catalog.pg_trigger'::pg_catalog.regclass
        from relations as r
        join pg_catalog.pg_trigger as t on t.tgrelid = r.oid and not t.tgisinternal
       union all
      select 'constraint', pg_catalog.format('%s.%I', r.name, k.conname), k.oid, 0,
             'pg_catalog.pg_constraint'::pg_catalog.regclass
        from relations as r
        join pg_catalog.pg_constraint as k on k.conrelid = r.oid
    ) as x
    join pg_catalog.pg_description as d
      on d.objoid = x.oid and d.classoid = x.class and d.objsubid = x.part
   union all
  select 80, extname::text, pg_catalog.format('extension %I in %I', extname, n.nspname)
    from pg_catalog.pg_extension
    join pg_catalog.pg_namespace as n on n.oid = extnamespace
   union all
  select 81, pubname::text, pg_catalog.format('publication %I all tables %s', pubname, puballtables)
    from pg_catalog.pg_publication
   union all
  select 82, pubname::text, pg_catalog.format('publication %I table %I.%I %s', pubname, schemaname, tablename, attnames)
    from pg_catalog.pg_publication_tables
   union all
  select 90, rolname::text, pg_catalog.format(
         'role %I super %s inherit %s createrole %s createdb %s login %s replication %s bypassrls %s limit %s until %s',
         rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
         rolconnlimit, coalesce(rolvaliduntil::text, 'ever'))
    from our_roles
   union all
  select 91, rolname::text, pg_catalog.format('role %I set %s%s', rolname, setting,
         case when s.setdatabase <> 0 then ' in this database' end)
    from our_roles
    join pg_catalog.pg_db_role_setting as s on s.setrole = our_roles.oid
     and s.setdatabase in (0, (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database())),
         pg_catalog.unnest(s.setconfig) as setting
   union all
  -- The options as jsonb, because PostgreSQL 16 and later have more of them than 15.
  select 92, pg_catalog.pg_get_userbyid(m.roleid)::text, pg_catalog.format('role %I granted to %I by %I %s',
         pg_catalog.pg_get_userbyid(m.roleid), pg_catalog.pg_get_userbyid(m.member),
         pg_catalog.pg_get_userbyid(m.grantor),
         pg_catalog.to_jsonb(m) - array['oid', 'roleid', 'member', 'grantor'])
    from pg_catalog.pg_auth_members as m
   where m.roleid in (select oid from our_roles)
      or m.member in (select oid from our_roles)
)
select line
  from lines
 order by section, name collate "C", line collate "C"
