import { Argument } from 'commander';
import type { Command, Option } from 'commander';
import { Output } from '../output.js';
import { examples } from '../session.js';

/** The command that the scripts below call for candidates. */
const COMPLETE = 'complete';

const SCRIPTS = {
  bash: `_nrs_completion() {
  local IFS=$'\\n'
  local words
  words=$("\${COMP_WORDS[0]}" ${COMPLETE} -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  COMPREPLY=($(compgen -W "$words" -- "\${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _nrs_completion nrs nestjs-redis-streams`,
  zsh: `#compdef nrs nestjs-redis-streams
_nrs_completion() {
  local -a candidates
  candidates=("\${(@f)$("\${words[1]}" ${COMPLETE} -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  compadd -- \${candidates:#} || _files
}
compdef _nrs_completion nrs nestjs-redis-streams`,
  fish: ['nrs', 'nestjs-redis-streams']
    .flatMap((name) => [
      `complete -c ${name} -f -a '(${name} ${COMPLETE} -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'`,
      `complete -c ${name} -n '__fish_seen_subcommand_from dump' -l output -r -F`,
      `complete -c ${name} -n '__fish_seen_subcommand_from load' -l input -r -F`,
    ])
    .join('\n'),
} as const;

export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description('print the completion script of a shell')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(SCRIPTS)))
    .addHelpText(
      'after',
      examples(
        ['source <(nrs completion bash)', 'in ~/.bashrc'],
        ['source <(nrs completion zsh)', 'in ~/.zshrc, after compinit'],
        ['nrs completion fish > ~/.config/fish/completions/nrs.fish', 'once, in a terminal'],
      ),
    )
    .action(async (shell: keyof typeof SCRIPTS) => new Output({ isJson: false }).line(SCRIPTS[shell]));
}

/** Prints the candidates for the last word. The scripts call it; the help does not show it. */
export function addComplete(program: Command): void {
  program
    .command(COMPLETE, { hidden: true })
    .argument('[words...]')
    .action(async (words: string[]) => {
      const candidates = candidatesFor(program, words);
      if (candidates.length > 0) await new Output({ isJson: false }).line(candidates.join('\n'));
    });
}

function candidatesFor(program: Command, words: readonly string[]): string[] {
  const [last = '', ...before] = [...words].reverse();
  let command = program;
  /** The option whose value comes next. */
  let open: Option | undefined;
  for (const word of before.reverse()) {
    if (open) open = undefined;
    else if (!word.startsWith('-')) command = command.commands.find((each) => each.name() === word) ?? command;
    else open = optionsOf(program, command).find((each) => each.required && [each.long, each.short].includes(word));
  }
  return wordsAfter(program, command, open, last.startsWith('-')).filter((word) => word.startsWith(last));
}

function wordsAfter(program: Command, command: Command, open: Option | undefined, isOption: boolean): string[] {
  if (open) return open.argChoices ?? [];
  if (isOption) return ['--help', ...optionsOf(program, command).flatMap(({ long }) => long ?? [])];
  const names = command
    .createHelp()
    .visibleCommands(command)
    .map((each) => each.name());
  return [...names, ...(command.registeredArguments[0]?.argChoices ?? [])];
}

function optionsOf(program: Command, command: Command): readonly Option[] {
  return command === program ? program.options : [...command.options, ...program.options];
}
