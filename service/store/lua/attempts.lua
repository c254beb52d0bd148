-- attempts: a document, and what is kept of its earlier attempts, as they are at one moment.
--
-- KEYS  1  document    2  earlier attempts
--
-- Returns both; false where there is no such document.

return { redis.call('GET', KEYS[1]), redis.call('LRANGE', KEYS[2], 0, -1) }
