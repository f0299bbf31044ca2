import { Argument } from 'commander';
import type { Command, Option } from 'commander';
import { Output } from '../output.js';
import { examples } from '../session.js';

/** What the scripts below call for the words that may follow. */
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
    .map(
      (name) =>
        `complete -c ${name} -f -a '(${name} ${COMPLETE} -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'`,
    )
    .join('\n'),
} as const;

export function addCompletion(program: Command): void {
  program
    .command('completion')
    .description('print the script that completes commands and options in a shell')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(SCRIPTS)))
    .addHelpText(
      'after',
      examples(
        ['source <(nrs completion bash)', 'in ~/.bashrc'],
        ['source <(nrs completion zsh)', 'in ~/.zshrc, behind compinit'],
        ['nrs completion fish > ~/.config/fish/completions/nrs.fish', 'once'],
      ),
    )
    .action(async (shell: keyof typeof SCRIPTS) => new Output({ isJson: false }).line(SCRIPTS[shell]));
}

/** Prints the words that may stand in place of the last one. The scripts call it; the help does not show it. */
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
  let [command, takesValue] = [program, false];
  for (const word of before.reverse()) {
    const option = word.startsWith('-')
      ? optionsOf(program, command).find(({ long, short }) => [long, short].includes(word))
      : undefined;
    if (!takesValue && !word.startsWith('-'))
      command = command.commands.find((each) => each.name() === word) ?? command;
    takesValue = option?.required ?? false;
  }
  if (takesValue) return [];
  const found = last.startsWith('-')
    ? ['--help', ...optionsOf(program, command).flatMap(({ long }) => long ?? [])]
    : command.commands.map((each) => each.name()).filter((name) => name !== COMPLETE);
  const choices = command.registeredArguments[0]?.argChoices ?? [];
  return [...found, ...(last.startsWith('-') ? [] : choices)].filter((word) => word.startsWith(last));
}

function optionsOf(program: Command, command: Command): readonly Option[] {
  return command === program ? program.options : [...command.options, ...program.options];
}
