-- A throw-away Python environment with the clients that lucid serve is tried with: tests/clients/requirements.txt, from
-- PyPI. It is made once and kept in $LUCID_TEST_PYTHON, or in the folder of temporary files.
local file = require "lucid.file"

local M = {}

local REQUIREMENTS = "tests/clients/requirements.txt"
local FOLDER = os.getenv "LUCID_TEST_PYTHON" or (os.getenv "TMPDIR" or "/tmp") .. "/lucid-test-clients-" .. file.hash(REQUIREMENTS):sub(1, 12)

local function ready() return file.exists(FOLDER .. "/ready") end

local function make()
  local steps = { ("python3 -m venv '%s'"):format(FOLDER),
    ("'%s/bin/pip' install --quiet --disable-pip-version-check --retries 1 -r %s"):format(FOLDER, REQUIREMENTS),
    ("touch '%s/ready'"):format(FOLDER) }
  for _, step in ipairs(steps) do
    if os.execute(step .. " >/dev/null 2>&1") ~= 0 then return step end
  end
end

--- Why there is none, or nil.
function M.missing()
  if ready() then return nil end
  local failed = make()
  return failed and "no Python environment, PyPI may be out of reach: " .. failed or nil
end

--- Runs a script of tests/clients; its output.
---@param script string
---@param ... string        its words
function M.run(script, ...)
  local words = { ("'%s/bin/python' tests/clients/%s"):format(FOLDER, script) }
  for _, word in ipairs { ... } do words[#words + 1] = ("'%s'"):format(word) end
  local pipe = io.popen("env -u http_proxy -u https_proxy -u HTTP_PROXY -u HTTPS_PROXY -u ALL_PROXY -u all_proxy "
    .. table.concat(words, " ") .. " 2>&1")
  local out = pipe:read "*a"
  pipe:close()
  return out
end

return M
