import type { Command } from 'commander';
import { UsageError } from '../failure.js';
import { action } from '../session.js';

export function addConsole(program: Command): void {
  program
    .command('console', { hidden: true })
    .description('serve the console for browsers (not in this version)')
    .option('--port <port>', 'port to listen at', '8080')
    .action(
      action(async () => {
        throw new UsageError('The console is not part of this version; it comes with a later one');
      }),
    );
}
