internal import AdminCommands

LagKVCtl.runAndExit()
