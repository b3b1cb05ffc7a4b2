-- For one transaction: every server writes the catalog in the same words, and no statement waits for a lock.
begin read only;
set local search_path = '';
set local timezone = 'UTC';
set local datestyle = 'ISO, MDY';
set local intervalstyle = 'postgres';
set local quote_all_identifiers = off;
set local standard_conforming_strings = on;
set local lock_timeout = '5s';
