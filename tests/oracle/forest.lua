-- Forest attention from its definition, dense and in doubles: the oracle of the native one.
--
-- A forest is a list of segments {parent = number or nil, length = n, bidirectional = b}.
-- A token sees every token of its segment's ancestors, and of its own segment those before it and
-- itself (all of them where the segment is bidirectional). Its position is the number of its
-- ancestors' tokens plus its offset. Rows are packed in depth-first preorder, by number among
-- siblings. Arrays are flat, 1-based, row-major: q [rows, heads, d], k and v [rows, groups, d].
local M = {}

--- The packed tokens, in order: {segment=, offset=, position=}, and the first row of each segment.
function M.pack(segments)
  local rows, first = {}, {}
  local function visit(parent, above)
    for i, s in ipairs(segments) do
      if s.parent == parent then
        first[i] = #rows + 1
        for offset = 1, s.length do
          rows[#rows + 1] = { segment = i, offset = offset, position = above + offset - 1 }
        end
        visit(i, above + s.length)
      end
    end
  end
  visit(nil, 0)
  return rows, first
end

--- Whether one packed token sees another.
function M.sees(segments, query, key)
  if query.segment == key.segment then
    return segments[query.segment].bidirectional or key.offset <= query.offset
  end
  local ancestor = segments[query.segment].parent
  while ancestor and ancestor ~= key.segment do ancestor = segments[ancestor].parent end
  return ancestor ~= nil
end

local function zeros(n)
  local t = {}
  for i = 1, n do t[i] = 0 end
  return t
end

--- For each query row the list of key rows it sees.
function M.visible(segments)
  local rows, list = M.pack(segments), {}
  for i, query in ipairs(rows) do
    list[i] = {}
    for j, key in ipairs(rows) do
      if M.sees(segments, query, key) then list[i][#list[i] + 1] = j end
    end
  end
  return list
end

local function probabilities(x, i, h, keys)
  local d, group = x.d, math.floor((h - 1) / (x.heads / x.groups))
  local p, top, sum = {}, -math.huge, 0
  for n, j in ipairs(keys) do
    local dot, query = 0, ((i - 1) * x.heads + h - 1) * d
    local key = ((j - 1) * x.groups + group) * d
    for c = 1, d do dot = dot + x.q[query + c] * x.k[key + c] end
    p[n] = dot * x.scale
    top = math.max(top, p[n])
  end
  for n = 1, #keys do
    p[n] = math.exp(p[n] - top)
    sum = sum + p[n]
  end
  for n = 1, #keys do p[n] = p[n] / sum end
  return p, group
end

--- o, dq, dk, dv. x: {q=, k=, v=, dout=, heads=, groups=, d=, scale=, keys=number of key rows};
--- visible: a list of key rows for each query row. Without dout only o.
function M.attention(x, visible)
  local d = x.d
  local o, dq = zeros(#visible * x.heads * d), zeros(#visible * x.heads * d)
  local dk, dv = zeros(x.keys * x.groups * d), zeros(x.keys * x.groups * d)
  for i, keys in ipairs(visible) do
    for h = 1, x.heads do
      local p, group = probabilities(x, i, h, keys)
      local row = ((i - 1) * x.heads + h - 1) * d
      for n, j in ipairs(keys) do
        local key = ((j - 1) * x.groups + group) * d
        for c = 1, d do o[row + c] = o[row + c] + p[n] * x.v[key + c] end
      end
      if x.dout then
        local dp, mean = {}, 0
        for n, j in ipairs(keys) do
          local key, dot = ((j - 1) * x.groups + group) * d, 0
          for c = 1, d do
            dot = dot + x.dout[row + c] * x.v[key + c]
            dv[key + c] = dv[key + c] + p[n] * x.dout[row + c]
          end
          dp[n] = dot
          mean = mean + p[n] * dot
        end
        for n, j in ipairs(keys) do
          local key, ds = ((j - 1) * x.groups + group) * d, p[n] * (dp[n] - mean) * x.scale
          for c = 1, d do
            dq[row + c] = dq[row + c] + ds * x.k[key + c]
            dk[key + c] = dk[key + c] + ds * x.q[row + c]
          end
        end
      end
    end
  end
  return o, dq, dk, dv
end

--- ||a - b|| / ||b||; not a number fails every comparison.
function M.distance(a, b)
  assert(#a == #b, "lengths differ: " .. #a .. " and " .. #b)
  local difference, size = 0, 0
  for i = 1, #b do
    difference = difference + (a[i] - b[i]) ^ 2
    size = size + b[i] ^ 2
  end
  return size > 0 and math.sqrt(difference / size) or math.sqrt(difference)
end

return M
