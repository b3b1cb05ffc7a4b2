-- Whether the bucket of recordings is public. No row if there is no such bucket.
select public from storage.buckets where id = 'recordings'
