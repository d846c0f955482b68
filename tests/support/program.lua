-- The executable under test: the sanitizers have their own.
return os.getenv("LUCID_BIN") or "bin/lucid"
