-- The walk through the C API under valgrind: make valgrind.
describe("valgrind", function()
  it("sees nothing read before it is written, and nothing lost", function()
    if os.execute("command -v valgrind >/dev/null 2>&1") ~= 0 then return pending "no valgrind (make deps-analysers)" end
    local p = io.popen("make -s -j2 valgrind 2>&1; echo status $?")
    local text = p:read "*a"
    p:close()
    assert.truthy(text:find "capi: done\nstatus 0\n$", text:sub(-3000))
  end)
end)
