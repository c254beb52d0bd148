"""The order of the steps: forwards to make a workspace, backwards to take it away."""

from typing import Final

from service.workspaces.steps.contents import Database, Env, Media, Prepare
from service.workspaces.steps.ground import Folders, Reserve, User
from service.workspaces.steps.interpreter import Venv
from service.workspaces.steps.serving import Access, Address, Health, WebProcess
from service.workspaces.steps.sources import Branch, Clone, FetchMirror
from service.workspaces.steps.step import BuildStep

SEQUENCE: Final[tuple[BuildStep, ...]] = (
    Reserve(),
    User(),
    Folders(),
    FetchMirror(),
    Clone(),
    Branch(),
    Venv(),
    Database(),
    Env(),
    Media(),
    Prepare(),
    Access(),
    WebProcess(),
    Address(),
    Health(),
)
