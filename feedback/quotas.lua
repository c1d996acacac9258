-- Settles what one gateway took from the shared buckets; see quotas.py.
-- KEYS[1] the gateways, KEYS[2…] one bucket each; ARGV: gateway, its chats in flight, the milliseconds for which
-- a gateway counts, then rate (a second), burst and used of each bucket. Time is the server's.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local elsewhere = 0
local told = redis.call('HGETALL', KEYS[1])
for i = 1, #told, 2 do
  local chats, at = string.match(told[i + 1], '(%d+) (%d+)')
  if now - tonumber(at) > tonumber(ARGV[3]) then
    redis.call('HDEL', KEYS[1], told[i])
  elseif told[i] ~= ARGV[1] then
    elsewhere = elsewhere + tonumber(chats)
  end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d %.0f', ARGV[2], now))
redis.call('PEXPIRE', KEYS[1], ARGV[3])

local answer = { tostring(elsewhere) }
for i = 2, #KEYS do
  local first = 3 * i - 2
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
return answer
