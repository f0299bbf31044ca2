import type { Command } from 'commander';
import { UsageError } from '../failure.js';
import { action, examples } from '../session.js';

export function addConsole(program: Command): void {
  program
    .command('console')
    .description('serve the console for browsers (not in this version)')
    .option('--port <port>', 'port to listen at', '8080')
    .addHelpText('after', examples(['nrs console --port 8080', 'says that the console comes with a later version']))
    .action(
      action(async () => {
        throw new UsageError('The console is not part of this version; it comes with a later one');
      }),
    );
}
