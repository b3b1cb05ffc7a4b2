with account as (
  select id, role
    from public.users
   where lower(username) = lower($1 collate "C")
     for update
)
update public.users as u
   set role = $2::public.user_role
  from account
 where u.id = account.id
returning u.username, account.role::text as before, u.role::text as after
