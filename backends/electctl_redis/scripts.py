"""The Lua scripts: every decision about who leads is one of these, so it is one atomic step.

What this does not guarantee: that a step survives. A primary that fails over before it has
replicated, or restarts without having synced, forgets it.

Redis runs one script at a time and nothing between its commands
(https://redis.io/docs/latest/develop/interact/programmability/eval-intro/). It does not roll back,
so in each script the command that can fail (wrong type, out of memory, read-only) comes before
those that change anything.

Keys, all in the hash slot of the election's own:

- ``<election>``: the lock, ``<id>:<32 hex>`` with a time to live
- ``electctl:{tag}:term:<election>``: hash of the latest term (holder, since, ttl, evict) and token
- ``electctl:{tag}:waiting:<election>``: sorted set, ``<16 digits>:<id>:<32 hex>`` → until when (ms)
  that waiter counts as alive; the digits say when it entered (µs)
- ``electctl:{tag}:checkpoint:<election>``: hash, ``v:<slot>`` value, ``g:<slot>`` grant,
  ``s:<slot>`` sequence

Channels (these are global to a server, so they carry the database's number):
``electctl:<db>:{tag}:wake:<32 hex>`` of one waiter, ``electctl:<db>:{tag}:changes:<election>``.

Who waits, sleeps until it is told something on its own channel: ``free`` (take it), ``standby``
(take it in 100 ms unless you hear more: the first may be dead), ``rank R MS`` (somebody leads, you
are number R, look again in MS). So a release makes one waiter act. Two more things keep a lock from
lying idle: a message that reaches nobody goes to the next waiter in the same step, and everyone
looks again by himself, the first two when the lock runs out, the others more and more rarely.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

#: What separates the id from the nonce, and the nonce: ":" and 32 hex digits.
NONCE_DIGITS = 32
#: Milliseconds after which the second waiter tries, if the first did not take a free lock.
STANDBY_MS = 100


@dataclass(frozen=True, slots=True)
class Script:
    """A script and its digest."""

    text: str
    sha: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        object.__setattr__(self, "sha", digest)


_CLOCK = """
local function clock()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000), t[1] .. string.format('%06d', t[2])
end
"""

_WAITERS = """
local lock, term, waiting = KEYS[1], KEYS[2], KEYS[3]
local channels = ARGV[1]

local function publish(channel, message)
  local n = redis.pcall('PUBLISH', channels .. channel, message)
  return type(n) == 'number' and n or -1   -- not permitted: say nothing of who listens
end

local function changed(message)
  publish('changes:' .. lock, message)
end

-- The live waiters, the longest waiting first.
local function waiters(now)
  redis.call('ZREMRANGEBYSCORE', waiting, '-inf', now)
  local flat = redis.call('ZRANGE', waiting, 0, -1, 'WITHSCORES')
  local found = {}
  for i = 1, #flat, 2 do
    found[#found + 1] = {member = flat[i], till = tonumber(flat[i + 1])}
  end
  table.sort(found, function(a, b) return a.member < b.member end)
  return found
end

-- Milliseconds until a waiter looks by itself. With 100 waiters and a TTL of 10 s these add up to
-- half a look a second.
local function look_in(rank, left, ttl)
  if left < 0 then left = ttl end
  if rank == 0 then return left + 5 end
  if rank == 1 then return left + 50 end
  return left + ttl * math.min(2 ^ (rank - 1), 64)
end

-- Tell waiters in order, messages[1] to the first that listens, and so on.
local function tell(found, messages)
  local n = 1
  for _, waiter in ipairs(found) do
    if n > #messages then return end
    if publish('wake:' .. string.sub(waiter.member, -32), messages[n]) == 0 then
      redis.call('ZREM', waiting, waiter.member)
    else
      n = n + 1
    end
  end
end

-- Take our own entry out of the queue, also one that we never heard of.
local function leave(value)
  for _, member in ipairs(redis.call('ZRANGE', waiting, 0, -1)) do
    if string.sub(member, 18) == value then redis.call('ZREM', waiting, member) end
  end
end

local function wake()
  local now = clock()
  tell(waiters(now), {'free', 'standby'})
end
"""

#: ARGV: channels, value, ttl in ms, stamp ("" do not wait, "0" enter the queue, or the own stamp).
#: Returns {1, token}, or {0, holder, its ttl, look again in ms, rank, stamp, rival, rival's till}.
ACQUIRE = Script(
    _CLOCK
    + _WAITERS
    + """
local value, ttl, stamp = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local held = redis.call('GET', lock)

if held and held ~= value then
  local left = redis.call('PTTL', lock)
  if stamp == '' then return {0, held, left} end
  local now, fresh = clock()
  local found = waiters(now)
  if stamp == '0' then
    stamp = fresh
    for _, waiter in ipairs(found) do   -- an earlier request of ours, whose answer was lost
      if string.sub(waiter.member, 18) == value then stamp = string.sub(waiter.member, 1, 16) end
    end
  end
  local me, id = stamp .. ':' .. value, string.sub(value, 1, -34)
  local rank, rival, till, last = 0, false, 0, 0
  for _, waiter in ipairs(found) do
    if waiter.member < me then
      rank = rank + 1
      if string.sub(waiter.member, 18, -34) == id then
        rival, till = waiter.member, waiter.till
      end
    end
    if waiter.till > last then last = waiter.till end
  end
  local look = look_in(rank, left, ttl)
  -- Word of one or two new leaders can put off the look; only the waiter itself extends its time,
  -- so that this is a sign of life.
  local mine = now + look + 3 * ttl
  redis.call('ZADD', waiting, mine, me)
  redis.call('PEXPIRE', waiting, math.max(last, mine) - now)
  return {0, held, left, look, rank, stamp, rival, till}
end

if held then   -- an earlier request of ours, whose answer was lost
  redis.call('PEXPIRE', lock, ttl)
  local seen = redis.call('HMGET', term, 'holder', 'token')
  if seen[1] == value then return {1, tonumber(seen[2])} end
end

local now = clock()
local token = redis.call('HINCRBY', term, 'token', 1)
redis.call('SET', lock, value, 'PX', ttl)
redis.call('HSET', term, 'holder', value, 'since', now, 'ttl', ttl, 'evict', '')
leave(value)
changed('held ' .. token .. ' ' .. ttl .. ' ' .. now .. ' ' .. value)
tell(waiters(now), {
  'rank 0 ' .. look_in(0, ttl, ttl),
  'rank 1 ' .. look_in(1, ttl, ttl),
})
return {1, token}
"""
)

#: ARGV: value, ttl in ms. Returns nil if the lock is not ours, else whether we are asked to stop.
RENEW = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return false end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HGET', KEYS[2], 'evict') == ARGV[1] and 1 or 0
""")

#: ARGV: channels, value. Leaves the queue, and frees the lock only if it is ours.
RELEASE = Script(
    _CLOCK
    + _WAITERS
    + """
local held = redis.call('GET', lock)
leave(ARGV[2])
if held == ARGV[2] then
  redis.call('DEL', lock)
  changed('free')
  held = false
end
-- Also when it was free before: the word that it is may have been said to us alone.
if not held then wake() end
return 1
"""
)

#: ARGV: channels, value that was seen. Returns 1 if that very term was ended.
DEPOSE = Script(
    _CLOCK
    + _WAITERS
    + """
if redis.call('GET', lock) ~= ARGV[2] then return 0 end
redis.call('DEL', lock)
changed('free')
wake()
return 1
"""
)

#: ARGV: value that was seen. Marks that very term.
ASK_TO_STOP = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[2], 'evict', ARGV[1])
return 1
""")

#: ARGV: value, slot, data, seq. Returns 0 if the lock is not ours.
CHECKPOINT = Script("""
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local seen = redis.call('HMGET', KEYS[2], 'g:' .. ARGV[2], 's:' .. ARGV[2])
if seen[1] == ARGV[1] and tonumber(seen[2]) >= tonumber(ARGV[4]) then return 1 end
redis.call('HSET', KEYS[2], 'v:' .. ARGV[2], ARGV[3], 'g:' .. ARGV[2], ARGV[1],
           's:' .. ARGV[2], ARGV[4])
return 1
""")

#: Returns {holder, its ttl in ms, what the term hash says of it, waiting members}.
_LOOK = (
    _CLOCK
    + """
local held = redis.call('GET', KEYS[1])
local seen = redis.call('HMGET', KEYS[2], 'holder', 'token', 'since', 'ttl')
local now = clock()
local flat = redis.call('ZRANGEBYSCORE', KEYS[3], now, '+inf')
table.sort(flat)
local answer = {held, redis.call('PTTL', KEYS[1]), seen[1], seen[2], seen[3], seen[4], flat}
"""
)
LOOK = Script(_LOOK + "return answer")

#: ARGV: channel. The same, published, so that it stands in order among the changes.
LOOK_ALOUD = Script(_LOOK + "return redis.call('PUBLISH', ARGV[1], cjson.encode(answer))")
