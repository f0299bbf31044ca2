import type { Command } from 'commander';
import { addDeadLs } from './dead-ls.js';
import { addDeadRedrive } from './dead-redrive.js';
import { addDeadRm } from './dead-rm.js';
import { addDeadShow } from './dead-show.js';

export function addDead(program: Command): void {
  const dead = program.command('dead').description('look at dead letters, return them to their group, or delete them');
  for (const add of [addDeadLs, addDeadShow, addDeadRedrive, addDeadRm]) add(dead);
}
