import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';
// An older major version, which applications of Nest 11 have.
import ts5 from 'typescript-5';

// Each `*.types.ts` file here is a program that is compiled and never run. What must not compile is
// marked with `@ts-expect-error`: a promise of the types that stops holding is then an unused marker.
const folder = dirname(fileURLToPath(import.meta.url));
const configFile = join(folder, '..', '..', 'tsconfig.json');
const files = readdirSync(folder).filter((name) => name.endsWith('.types.ts'));

type Compiler = Pick<
  typeof ts,
  'createProgram' | 'flattenDiagnosticMessageText' | 'parseJsonConfigFileContent' | 'readConfigFile' | 'sys' | 'version'
>;

/** The complaints of a compiler about each file. */
function compile(compiler: Compiler): (name: string) => string[] {
  const { config, error } = compiler.readConfigFile(configFile, (path) => compiler.sys.readFile(path));
  if (error) throw new Error(compiler.flattenDiagnosticMessageText(error.messageText, '\n'));
  const { options } = compiler.parseJsonConfigFileContent(config, compiler.sys, dirname(configFile));
  const program = compiler.createProgram(
    files.map((name) => join(folder, name)),
    options,
  );
  return (name) => {
    const source = program.getSourceFile(join(folder, name));
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
      ({ file, start, messageText }) => {
        const line = file && start !== undefined ? file.getLineAndCharacterOfPosition(start).line : 0;
        return `${name}:${line + 1} ${compiler.flattenDiagnosticMessageText(messageText, '\n')}`;
      },
    );
  };
}

describe.each([ts, ts5 as unknown as Compiler])('public types, with TypeScript $version', (compiler) => {
  const complaints = compile(compiler);

  it.each(files)('%s holds at compile time', (name) => {
    expect(complaints(name)).toEqual([]);
  });
});
