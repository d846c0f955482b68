-- make tidy: clang-tidy (.clang-tidy) and cppcheck over the core. What they find is compared with tests/tidy.txt.
-- The words are the flags that files are compiled with.
local LIST = "tests/tidy.txt"

local function lines_of(command)
  local list, p = {}, io.popen(command)
  for line in p:lines() do list[#list + 1] = line end
  p:close()
  return list
end

local function quoted(words)
  local list = {}
  for i, word in ipairs(words) do list[i] = "'" .. word:gsub("'", "'\\''") .. "'" end
  return table.concat(list, " ")
end

local files = lines_of "ls native/*/*.c | grep -v '^native/cuda/'"
for _, tool in ipairs { "clang-tidy", "cppcheck" } do
  if os.execute(("command -v %s >/dev/null"):format(tool)) ~= 0 then
    print(("tidy: there is no %s; make deps-analysers installs it"):format(tool))
    os.exit(1)
  end
end
local here = lines_of("pwd")[1] .. "/"
local command_lines = {
  ("printf '%%s\\n' %s | xargs -P 2 -n 6 sh -c %s tidy 2>/dev/null"):format(quoted(files),
    quoted { 'clang-tidy --quiet "$@" -- ' .. quoted(arg) }),
  -- Packed numbers are bytes until somebody asks for them: invalidPointerCast.
  ("cppcheck --quiet -j 2 --std=c11 --language=c -Inative -D__x86_64__ -D__linux__ --enable=warning,portability,performance "
    .. "--suppress=invalidPointerCast --template='{file}:{line}: warning: {message} [{id}]' --template-location=' ' %s %s 2>&1")
    :format(quoted(lines_of("printf '%s\\n' " .. quoted(arg) .. " | grep -e '^-DLC_HAVE'")), quoted(files)),
}

local allowed, used, faults = {}, {}, 0
for line in io.lines(LIST) do
  local what = line:match "^([^#]%S+ %S+): "
  if what then allowed[what] = true end
end

local seen = {}
for _, command in ipairs(command_lines) do
  for _, line in ipairs(lines_of(command)) do
    local file, check = line:match "^(%S-):%d+:.* %a+: .*%[([%w.-]+)[^%]]*%]$"
    local what = file and ("%s %s"):format(file:sub(1, #here) == here and file:sub(#here + 1) or file, check)
    if what and allowed[what] then
      used[what] = true
    elseif what and not seen[line] then
      seen[line], faults = true, faults + 1
      print(line)
    end
  end
end
for what in pairs(allowed) do
  if not used[what] then
    print(("%s: %s is not found any more; take the line out"):format(LIST, what))
    faults = faults + 1
  end
end
if faults > 0 then os.exit(1) end
print(("tidy: %d files, nothing but what %s lists"):format(#files, LIST))
