"""gossipctl completion: the script that a shell loads."""

from __future__ import annotations

from gossipctl.command import Command, Invocation
from gossipctl.parser import Parser, choice

BASH = """\
# bash completion for gossipctl; load it with: source <(gossipctl completion bash)
_gossipctl() {
    local IFS=$'\\n' line
    COMPREPLY=()
    while read -r line; do
        COMPREPLY+=("${line%%$'\\t'*}")
    done < <("${COMP_WORDS[0]}" __complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace
    elif [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == ":files" ]]; then
        COMPREPLY=()
        compopt -o default
    fi
}
complete -F _gossipctl gossipctl
"""

ZSH = """\
#compdef gossipctl
# zsh completion for gossipctl; load it with: source <(gossipctl completion zsh)
_gossipctl() {
    local -a found
    local line name text
    while IFS= read -r line; do
        if [[ $line == ":files" ]]; then
            _files
            return
        fi
        name=${line%%$'\\t'*}
        text=${line#*$'\\t'}
        [[ $text == $line ]] && found+=("${name//:/\\\\:}") || found+=("${name//:/\\\\:}:$text")
    done < <("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    _describe -V 'gossipctl' found
}
if [[ ${zsh_eval_context[-1]} == loadautofunc ]]; then
    _gossipctl "$@"
else
    compdef _gossipctl gossipctl
fi
"""

FISH = """\
# fish completion for gossipctl; load it with: gossipctl completion fish | source
function __gossipctl_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l found (command $words[1] __complete $words[2..-1] 2>/dev/null)
    if test "$found" = ":files"
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $found
    end
end
complete -c gossipctl -f -a '(__gossipctl_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}


def _arguments(parser: Parser) -> None:
    parser.positional("shell", type=choice(*SCRIPTS), metavar="|".join(SCRIPTS), help="the shell")


def _completion(invocation: Invocation) -> None:
    invocation.output.line(SCRIPTS[invocation.flags.shell].rstrip("\n"))


COMMANDS = {
    "completion": Command(
        _completion,
        _arguments,
        """Print a script that makes a shell complete nouns, verbs, flags, and the names of swarms, regions,
        agents and keys.

        bash: source <(gossipctl completion bash) in ~/.bashrc

        zsh: source <(gossipctl completion zsh) in ~/.zshrc, behind compinit

        fish: gossipctl completion fish > ~/.config/fish/completions/gossipctl.fish""",
        ("completion bash",),
    )
}
