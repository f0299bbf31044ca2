import { openTally } from './tally-report.ts';

export { default } from './global-setup.ts';

openTally();
