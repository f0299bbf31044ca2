import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';

// Each `*.types.ts` file here is a program that is compiled and never run. What must not compile is
// marked with `@ts-expect-error`: a promise of the types that stops holding is then an unused marker.
const folder = dirname(fileURLToPath(import.meta.url));
const configFile = join(folder, '..', '..', 'tsconfig.json');
const files = readdirSync(folder).filter((name) => name.endsWith('.types.ts'));

const compilerOptions = (): ts.CompilerOptions => {
  const { config, error } = ts.readConfigFile(configFile, (path) => ts.sys.readFile(path));
  if (error) throw new Error(ts.flattenDiagnosticMessageText(error.messageText, '\n'));
  return ts.parseJsonConfigFileContent(config, ts.sys, dirname(configFile)).options;
};

const program = ts.createProgram(
  files.map((name) => join(folder, name)),
  compilerOptions(),
);

const complaints = (name: string): string[] => {
  const source = program.getSourceFile(join(folder, name));
  return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
    ({ file, start, messageText }) => {
      const line = file && start !== undefined ? file.getLineAndCharacterOfPosition(start).line : 0;
      return `${name}:${line + 1} ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
    },
  );
};

describe('public types', () => {
  it.each(files)('%s holds at compile time', (name) => {
    expect(complaints(name)).toEqual([]);
  });
});
