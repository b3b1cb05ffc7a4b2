-- Which server answers.
select current_setting('server_version_num')::int4, current_setting('server_version'), current_database()::text,
       session_user::text, clock_timestamp()
