-- Each function with its definition, owner, comment and grants, by its signature.
select format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as signature,
       jsonb_pretty(jsonb_build_object(
         'definition', string_to_array(pg_get_functiondef(p.oid), E'\n'),
         'owner', pg_get_userbyid(p.proowner),
         'comment', obj_description(p.oid, 'pg_proc'),
         'granted', (
           select jsonb_agg(who order by who)
             from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as acl,
                  format('%s to %s by %s', acl.privilege_type,
                    case acl.grantee when 0 then 'public' else acl.grantee::regrole::text end,
                    acl.grantor::regrole) as who))) as made
  from pg_proc as p
  join pg_namespace as n on n.oid = p.pronamespace
 where n.nspname in ('public', 'private', 'speedcoding')
   and not exists (select from pg_depend as d where d.objid = p.oid and d.deptype = 'e')
