import globalTeardown from './global-teardown.ts';
import { printTally } from './tally-report.ts';

export default async function integrityTeardown(): Promise<void> {
  await globalTeardown();
  printTally();
}
