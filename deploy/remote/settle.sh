# Does nothing, once what a killed client left running on this host has ended (step.sh waits for it).
:
