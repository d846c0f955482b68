std = "luajit"
max_line_length = false
ignore = { "212/self", "143/table.unpack" }
files["tests"] = { std = "+busted" }
