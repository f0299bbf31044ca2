// Describes the public declarations of each entry point in etc/*.api.md, so that a diff shows a change of the API:
//   node .ci/api-report.js           writes the reports
//   node .ci/api-report.js --check   fails if a report would change, and prints the difference
// Reads the declarations in .run/declarations, which `npm run api` and `npm run api:check` build first.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Extractor, ExtractorConfig, ExtractorLogLevel } from '@microsoft/api-extractor';

/**
 * An exported declaration that refers to a symbol which its entry point does not export: `Warning` notes it in the report;
 * `Error` lists it and makes both commands fail.
 * @type {ExtractorLogLevel}
 */
const FORGOTTEN_EXPORT = ExtractorLogLevel.Error;

const root = fileURLToPath(new URL('..', import.meta.url));
/** @type {{ exports: Record<string, unknown> }} */
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
/** The main one first: a symbol that it exports is public, so the others may refer to it. */
const entryPoints = Object.keys(manifest.exports)
  .filter((name) => !name.endsWith('.json'))
  .map((name) => (name === '.' ? 'index' : name.slice('./'.length)));

const ignored = { default: { logLevel: ExtractorLogLevel.None } };
const isCheck = process.argv.includes('--check');

/** @param {string} name */
function configOf(name) {
  const entryPoint = join(root, '.run', 'declarations', `${name}.d.ts`);
  return ExtractorConfig.prepare({
    packageJsonFullPath: join(root, 'package.json'),
    configObjectFullPath: undefined,
    configObject: {
      projectFolder: root,
      mainEntryPointFilePath: entryPoint,
      compiler: {
        overrideTsconfig: {
          extends: join(root, 'tsconfig.json'),
          compilerOptions: { allowJs: false, checkJs: false },
          files: [entryPoint],
          include: [],
        },
      },
      apiReport: {
        enabled: true,
        reportFileName: name,
        reportFolder: join(root, 'etc'),
        reportTempFolder: join(root, '.run', 'api'),
      },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      newlineKind: 'lf',
      messages: {
        compilerMessageReporting: { default: { logLevel: ExtractorLogLevel.Error } },
        tsdocMessageReporting: ignored,
        extractorMessageReporting: {
          ...ignored,
          'ae-forgotten-export': {
            logLevel: FORGOTTEN_EXPORT,
            addToApiReportFile: FORGOTTEN_EXPORT !== ExtractorLogLevel.Error,
          },
        },
      },
    },
  });
}

/** @param {string} name */
function exportsOf(name) {
  const report = readFileSync(join(root, '.run', 'api', `${name}.api.md`), 'utf8');
  return new Set([...report.matchAll(/^export (?:abstract )?\w+ (\w+)/gm)].map(([, symbol]) => symbol));
}

mkdirSync(join(root, 'etc'), { recursive: true });
/** @type {Set<string | undefined>} */
let exported = new Set();
for (const name of entryPoints) {
  const result = Extractor.invoke(configOf(name), {
    localBuild: !isCheck,
    printApiReportDiff: isCheck,
    messageCallback: (message) => {
      const [, symbol] = /^The symbol "(\w+)"/.exec(message.text) ?? [];
      if (message.messageId === 'ae-forgotten-export' && exported.has(symbol))
        message.logLevel = ExtractorLogLevel.None;
    },
  });
  if (name === 'index') exported = exportsOf(name);
  if (result.succeeded) continue;
  if (result.apiReportChanged)
    console.error(`Run \`npm run api\` and commit etc/${name}.api.md if the change is intended.`);
  process.exitCode = 1;
}
