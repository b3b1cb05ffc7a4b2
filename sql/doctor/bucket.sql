-- Whether everybody may read the bucket of recordings; no row where there is none.
select public from storage.buckets where id = 'recordings'
