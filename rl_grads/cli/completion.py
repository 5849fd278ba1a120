"""`rl-grads --completion SHELL`: tab completion for bash, zsh and fish.

What is completed comes from Hydra's own completion: names of groups, their choices, and
keys with what stands there now.
"""

import sys
from collections.abc import Sequence

_BASH = """\
_rl_grads() {
  local word words
  COMPREPLY=()
  words=("${COMP_LINE:0:COMP_POINT}")
  while IFS= read -r word; do
    COMPREPLY+=("$word")
  done < <(rl-grads --completion words "$words" 2>/dev/null)
  [[ "${COMPREPLY[0]}" == *[.=/] ]] && compopt -o nospace 2>/dev/null
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -F _rl_grads rl-grads"""
SCRIPTS = {
    "bash": _BASH,
    "zsh": "autoload -Uz bashcompinit && bashcompinit\n" + _BASH,
    "fish": "complete -c rl-grads -f -a "
    "'(rl-grads --completion words (commandline -cp) 2>/dev/null)'",
}
_HELP = """\
usage: rl-grads --completion SHELL

Print what makes SHELL complete commands, keys and choices. Put one of these into its
own file:
  ~/.bashrc                   eval "$(rl-grads --completion bash)"
  ~/.zshrc                    eval "$(rl-grads --completion zsh)"
  ~/.config/fish/config.fish  rl-grads --completion fish | source"""


def main(argv: Sequence[str], commands: Sequence[str]) -> int:
    """Print a shell's script, or (`words LINE`) what may come next in a line.

    Args:
        argv: Arguments after `rl-grads --completion`.
        commands: Of `rl-grads`.

    Returns:
        The exit status.
    """
    what = argv[0] if argv else "--help"
    if what in SCRIPTS:
        print(SCRIPTS[what])
        return 0
    if what == "words":
        print("\n".join(words(argv[1] if len(argv) > 1 else "", commands)))
        return 0
    if what in ("-h", "--help"):
        print(_HELP)
        return 0
    expected = f"expected one of {', '.join(SCRIPTS)}"
    print(f"rl-grads --completion {what}: {expected}", file=sys.stderr)
    return 2


def words(line: str, commands: Sequence[str] = ()) -> list[str]:
    """What the last word of a line may become.

    Example:
        >>> words("rl-grads au", ["train", "audit"])
        ['audit']
        >>> words("rl-grads train replay=bu")
        ['replay=buffer']
        >>> words("rl-grads train training.total_s")
        ['training.total_steps=']
    """
    typed = line.split(" ")[1:]
    if len(typed) < 2:
        return [name for name in commands if name.startswith((typed or [""])[0])]
    return _keys(typed[1:]) if typed[0] in ("train", "audit") else []


def _keys(typed: Sequence[str]) -> list[str]:
    """Groups, choices and keys that begin with the last of the words."""
    from hydra.core.global_hydra import GlobalHydra

    from rl_grads.cli import compose, hydra_private, plugins

    names, rest = plugins.split([word for word in typed[:-1] if word])
    plugins.load(names)
    compose.store_schemas()
    request = compose.read([w for w in rest if not w.startswith("-")])
    with compose.composer(request):
        completion = hydra_private.Completion(GlobalHydra.instance().config_loader())
        return sorted(completion.after(" ".join([*rest, typed[-1]])))
