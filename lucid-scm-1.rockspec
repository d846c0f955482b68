package = "lucid"
version = "scm-1"
source = { url = "git+https://github.com/lucid-lua/lucid.git" }
description = {
  summary = "HA-DPO: preference training of vision-language models, in LuaJIT and C",
  license = "Apache-2.0",
}
dependencies = { "lua >= 5.1, < 5.2" }
build = {
  type = "command",
  build_command = "make all",
  install_command = "make rock PREFIX='$(PREFIX)/lucid' BINDIR='$(BINDIR)' LUADIR='$(LUADIR)'",
}
