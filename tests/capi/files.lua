-- What the walk needs: a folder with a model of new weights and a picture. The word is the folder.
local tiny = require "tests.support.tiny"

os.execute("mkdir -p '" .. arg[1] .. "'")
tiny.model(arg[1], 3)
tiny.pictures(arg[1], 1)
