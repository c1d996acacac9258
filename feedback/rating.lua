-- Offers a rater the first item that it has not seen and that has room; see rating.py.
-- KEYS[1] the ranking, KEYS[2] the items, KEYS[3] what the rater has seen; ARGV: rater, overlap, life of the offer and
-- of what is known (ms), the prefix of the keys of offers, then the ids to choose from; none: the ranking's. Time is the
-- server's.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ids = {}
for i = 6, #ARGV do ids[#ids + 1] = ARGV[i] end
if #ids == 0 then ids = redis.call('ZREVRANGE', KEYS[1], 0, -1) end
for _, id in ipairs(ids) do
  local offers = ARGV[5] .. id
  if redis.call('SISMEMBER', KEYS[3], id) == 0
    and redis.call('ZCOUNT', offers, string.format('(%.0f', now), '+inf') < tonumber(ARGV[2]) then
    redis.call('ZADD', offers, string.format('%.0f', now + ARGV[3]), ARGV[1])
    redis.call('PEXPIRE', offers, ARGV[4])
    redis.call('SADD', KEYS[3], id)
    redis.call('PEXPIRE', KEYS[3], ARGV[4])
    return {id, redis.call('HGET', KEYS[2], id) or ''}
  end
end
return {}
