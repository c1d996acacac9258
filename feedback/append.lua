-- Appends one event once. ARGV: kind, event id, event (JSON), extra (JSON: life, seen, summary, said).
-- Answers "new", "changed" (replaces the subject's standing vote) or "repeat" (nothing written).
local kind, event_id, body, extra = ARGV[1], ARGV[2], ARGV[3], cjson.decode(ARGV[4])
local P = 'heed:'
local seen = P .. 'seen:' .. event_id
if redis.call('EXISTS', seen) == 1 then return 'repeat' end
local event = cjson.decode(body)
local status = 'new'

local function bump(experiment, arm, field, by)
  if by ~= 0 then redis.call('HINCRBYFLOAT', P .. 'counts:' .. experiment, arm .. '|' .. field, by) end
end
local function summary(response_id)
  local data = redis.call('GET', P .. 'response:' .. response_id)
  return data and cjson.decode(data) or nil
end
local function present(value) return value ~= nil and value ~= cjson.null end

if kind == 'vote' then
  local voice = P .. 'voice:' .. event.feedback_id
  local standing, newest = nil, -1
  for _, past in ipairs(redis.call('LRANGE', voice, 0, -1)) do
    local old = cjson.decode(past)
    if old.time >= newest then standing, newest = old, old.time end
  end
  local same = redis.call('GET', voice .. ':said')
  if standing and same == extra.said and event.time >= newest then return 'repeat' end
  if not standing and not present(event.rating) then return 'repeat' end
  redis.call('RPUSH', voice, body)
  redis.call('LTRIM', voice, -32, -1)
  redis.call('EXPIRE', voice, extra.life)
  local known = summary(event.response_id)
  if event.time >= newest then
    redis.call('SET', voice .. ':said', extra.said, 'EX', extra.life)
    if known and present(known.experiment) then
      if standing and present(standing.rating) then bump(known.experiment, known.arm, standing.rating, -1) end
      if present(event.rating) then bump(known.experiment, known.arm, event.rating, 1) end
    end
  end
  if standing then status = 'changed' end
  local alias = known and known.alias or event.alias
  if present(alias) then redis.call('HINCRBY', P .. 'votes', alias, 1) end
elseif kind == 'comparison' then
  local voice = P .. 'voice:' .. event.feedback_id
  local past = redis.call('LINDEX', voice, -1)
  if past then
    local old = cjson.decode(past)
    if cjson.encode(old.ranking) == cjson.encode(event.ranking) and (old.both_bad or false) == (event.both_bad or false) then
      return 'repeat'
    end
    status = 'changed'
  end
  redis.call('RPUSH', voice, body)
  redis.call('LTRIM', voice, -32, -1)
  redis.call('EXPIRE', voice, extra.life)
  local function tally(said, sign)
    for place, group in ipairs(said.ranking) do
      for _, response_id in ipairs(group) do
        local known = summary(response_id)
        if known and present(known.experiment) then
          local won = #said.ranking == 1 and 0.5 or (place == 1 and 1 or 0)
          bump(known.experiment, known.arm, 'wins', sign * won)
          bump(known.experiment, known.arm, 'compared', sign)
        end
      end
    end
  end
  if past then tally(cjson.decode(past), -1) end
  tally(event, 1)
  local known = summary(event.ranking[1][1])
  local alias = known and known.alias or event.alias
  if present(alias) then redis.call('HINCRBY', P .. 'votes', alias, 1) end
elseif kind == 'response' then
  redis.call('SET', P .. 'response:' .. event.response_id, extra.summary, 'EX', extra.life)
  local mine = P .. 'subject:' .. event.subject
  redis.call('LPUSH', mine, event.response_id)
  redis.call('LTRIM', mine, 0, 999)
  redis.call('EXPIRE', mine, extra.life)
  if present(event.experiment) then
    bump(event.experiment, event.arm, 'exposures', 1)
    bump(event.experiment, event.arm, 'errors', event.code >= 500 and 1 or 0)
    bump(event.experiment, event.arm, 'completion_tokens', event.completion_tokens)
    bump(event.experiment, event.arm, 'duration_seconds', event.duration)
    redis.call('PFADD', P .. 'exposed:' .. event.experiment .. ':' .. event.arm, event.subject)
  end
elseif kind == 'report' then
  redis.call('HSET', P .. 'reports', event.report_id, body)
end

redis.call('XADD', P .. 'events', '*', 'k', kind, 'e', body)
redis.call('SET', seen, '1', 'EX', extra.seen)
return status
