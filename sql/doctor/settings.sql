-- For one transaction: what PostgreSQL writes is the same everywhere, and nobody is waited for.
begin read only;
set local search_path = '';
set local timezone = 'UTC';
set local datestyle = 'ISO, MDY';
set local intervalstyle = 'postgres';
set local quote_all_identifiers = off;
set local standard_conforming_strings = on;
set local lock_timeout = '5s';
