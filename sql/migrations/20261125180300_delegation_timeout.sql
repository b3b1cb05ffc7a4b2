-- What anybody asks through PostgREST ends by itself, as on Supabase: a regular expression with back references keeps a
-- core busy for days, whether or not somebody waits for the answer. The role belongs to the cluster: what has been set
-- there stays, and databases that set it at the same moment try again.
do $$
begin
  for attempt in 1..20 loop
    begin
      if not exists (
        select from pg_catalog.pg_db_role_setting as s, unnest(s.setconfig) as setting
         where s.setrole = 'authenticator'::regrole
           and s.setdatabase = 0
           and starts_with(setting, 'statement_timeout=')
      ) then
        alter role authenticator set statement_timeout = '8s';
      end if;
      exit;
    exception
      when insufficient_privilege then
        raise notice 'the role authenticator keeps its statement_timeout: it is somebody else''s';
        exit;
      when unique_violation or internal_error then
        if attempt = 20 then
          raise;
        end if;
    end;
  end loop;
end
$$;
