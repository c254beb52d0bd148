"""A reload: a release on trial beside the one that serves. `candidate` and `gentle` are the processes' own side."""
