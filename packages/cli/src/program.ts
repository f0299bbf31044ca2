import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { CheckFoundError, EXIT, exitCodeOf, failureLines, withoutSecrets } from './failure.js';
import { Output } from './output.js';
import { addGlobalOptions } from './session.js';
import { addComplete, addCompletion } from './commands/completion.js';
import { addConsole } from './commands/console.js';
import { addConsumers } from './commands/consumers.js';
import { addDead } from './commands/dead.js';
import { addDelayed } from './commands/delayed.js';
import { addDoctor } from './commands/doctor.js';
import { addDump } from './commands/dump.js';
import { addGet } from './commands/get.js';
import { addGroups } from './commands/groups.js';
import { addInfo } from './commands/info.js';
import { addLag } from './commands/lag.js';
import { addLoad } from './commands/load.js';
import { addLs } from './commands/ls.js';
import { addPause, addResume } from './commands/pause.js';
import { addPending } from './commands/pending.js';
import { addSeek } from './commands/seek.js';
import { addSend } from './commands/send.js';
import { addShards } from './commands/shards.js';
import { addTail } from './commands/tail.js';
import { addTrim } from './commands/trim.js';

/** Every command, in the order of the help. A command is one file, whose function adds it to the program. */
const COMMANDS: ReadonlyArray<(program: Command) => void> = [
  addLs,
  addInfo,
  addShards,
  addTail,
  addGet,
  addSend,
  addGroups,
  addLag,
  addPending,
  addSeek,
  addDead,
  addTrim,
  addConsumers,
  addDelayed,
  addPause,
  addResume,
  addDump,
  addLoad,
  addDoctor,
  addConsole,
  addCompletion,
  addComplete,
];

/**
 * The program with all of its commands; it has read no arguments yet.
 * @public for the test of the help
 */
export function createProgram(): Command {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const program = new Command('nrs')
    .description('Inspects and repairs Redis Streams and their consumer groups.')
    .version(version, '-V, --version', 'print the version')
    .helpCommand('help [command]', 'print the help of a command')
    .showHelpAfterError('(add --help for the options and examples)')
    .configureHelp({ sortOptions: true, showGlobalOptions: true })
    .configureOutput({ outputError: (text, write) => write(withoutSecrets(text.replace(/^error:/, 'nrs:'))) })
    .exitOverride();
  addGlobalOptions(program);
  for (const add of COMMANDS) add(program);
  return program;
}

/** Runs one command line; resolves with the exit code. Never rejects. */
export async function runTool(args: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync(args, { from: 'user' });
    return EXIT.done;
  } catch (error) {
    // Commander has printed its own message; the help and the version end with code 0.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    if (!(error instanceof CheckFoundError)) {
      const [first, ...others] = failureLines(error).map(withoutSecrets);
      await new Output({ isJson: false }).note(`nrs: ${first}`, ...others);
    }
    return exitCodeOf(error);
  }
}
