-- Settles what one gateway took from the shared buckets, and tells who holds how many chats; see quotas.py.
-- KEYS[1] the gateways, then one for each bucket, then one for each holder; ARGV: gateway, its chats in flight, the
-- milliseconds for which a gateway counts, the number of buckets, then rate (a second), burst and used of each bucket,
-- then the chats of each holder. Time is the server's.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local gateway, life, buckets = ARGV[1], tonumber(ARGV[3]), tonumber(ARGV[4])

-- What the others told of the hash, without those that have fallen silent; then writes what this one tells.
local function others(key, chats, keep)
  local sum = 0
  local told = redis.call('HGETALL', key)
  for i = 1, #told, 2 do
    local theirs, at = string.match(told[i + 1], '(%d+) (%d+)')
    if now - tonumber(at) > life then
      redis.call('HDEL', key, told[i])
    elseif told[i] ~= gateway then
      sum = sum + tonumber(theirs)
    end
  end
  if tonumber(chats) > 0 or keep then
    redis.call('HSET', key, gateway, string.format('%d %.0f', chats, now))
    redis.call('PEXPIRE', key, life)
  else
    redis.call('HDEL', key, gateway)
  end
  return sum
end

local answer = { tostring(others(KEYS[1], ARGV[2], true)) }
for i = 2, buckets + 1 do
  local first = 3 * i - 1
  local rate, burst, used = tonumber(ARGV[first]), tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
  local stood = redis.call('HMGET', KEYS[i], 'level', 'at')
  local level = burst
  if stood[1] then
    local since = math.max(0, now - tonumber(stood[2])) / 1000
    level = math.min(burst, tonumber(stood[1]) + since * rate)
  end
  level = level - used
  if used > 0 then
    redis.call('HSET', KEYS[i], 'level', string.format('%.6f', level), 'at', string.format('%.0f', now))
    redis.call('PEXPIRE', KEYS[i], math.max(1, math.ceil((burst - level) / rate * 1000)))
  end
  answer[i] = string.format('%.6f', level)
end
for i = buckets + 2, #KEYS do
  answer[i] = tostring(others(KEYS[i], ARGV[2 * buckets + 3 + i], false))
end
return answer
