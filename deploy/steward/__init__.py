"""The steward: what root does for workspaces, and nothing else.

With the five modules of service/workspaces that it uses it is a folder of root's, to be read before it is installed. It
needs the standard library alone, and no release brings it.

It listens at a unix socket. The kernel says who asks: the service's user may ask for every verb, a member of a
workspace's group for a few verbs of that workspace, nobody else for anything. A verb is on a closed list, and gets a
slug and checked scalars: never a path, a command line or a uid. A connection is one request, a line of JSON; the answer
is lines of JSON, of which the last has `done`, `exit` or `refused`.

- Each request has a process of its own (request.py). It dies with the steward, and what it began dies with it.
- A stranger's code runs in a cage (cage.py): the workspace's uid, a PID namespace that the kernel empties when its
  first process dies, mounts of its own, limits, no capabilities, no new privileges, an empty environment.
- `w/<slug>` is the workspace's, which may lay there what it likes. Root itself never goes there: the steward does what
  is to be done in it as the workspace's user (as_user.py), or in its cage, so a link leads no further than that user
  comes. `rm` and `du`, which follow none, are the exception.
- A uid is written down before it is used (uids.py), and is never used twice.
"""
