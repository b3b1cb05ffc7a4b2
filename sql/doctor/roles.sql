-- What to do about roles that are missing, that bypass the policies, or that PostgREST cannot switch to.
with wanted (name, is_postgrests) as (
  values ('anon', true), ('authenticated', true), ('service_role', true), ('authenticator', false),
         ('speedcoding_api', false), ('speedcoding_writer', false), ('speedcoding_keeper', false)
)
select case
         when r.oid is null then format('create role %I as in sql/migrations', name)
         when r.rolsuper then format('alter role %I nosuperuser;', name)
         when r.rolbypassrls and name <> 'service_role' then format('alter role %I nobypassrls;', name)
         else format('grant %I to authenticator;', name)
       end
  from wanted
  left join pg_catalog.pg_roles as r on r.rolname = name
 where r.oid is null
    or r.rolsuper
    or (r.rolbypassrls and name <> 'service_role')
    or (is_postgrests and not exists (
         select from pg_catalog.pg_auth_members as m
          where m.roleid = r.oid
            and m.member = pg_catalog.to_regrole('authenticator')
       ))
   union all
select format('alter role %I nologin;', rolname)
  from pg_catalog.pg_roles
 where rolname in ('speedcoding_writer', 'speedcoding_keeper')
   and rolcanlogin
   union all
-- The role that migrates is a member of our roles. The roles that clients use must be members of none of them.
select format('revoke %I from %I;', granted.rolname, member.rolname)
  from pg_catalog.pg_auth_members as m
  join pg_catalog.pg_roles as granted on granted.oid = m.roleid
  join pg_catalog.pg_roles as member on member.oid = m.member
 where (
         granted.rolname like 'speedcoding\_%'
         and member.rolname in ('anon', 'authenticated', 'service_role', 'authenticator')
       )
    or member.rolname in ('anon', 'authenticated', 'speedcoding_api', 'speedcoding_writer', 'speedcoding_keeper')
