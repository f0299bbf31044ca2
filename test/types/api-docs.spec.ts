import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from '@jest/globals';
import ts from 'typescript';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
/** `index` has all that `engine` has. */
const ENTRY_POINTS = ['index', 'file', 'opentelemetry', 'prometheus', 'terminus', 'testing'].map((name) =>
  join(ROOT, `lib/${name}.ts`),
);
/** Its functions throw an InvalidOptionError each. */
const CHECKS = join(ROOT, 'lib/shared/option-checks.ts');

type WithBody = ts.FunctionLikeDeclaration & { readonly body: ts.Node };

/** A function, constructor or method that an application can call. */
interface Callable {
  readonly name: string;
  /** More than one if it is overloaded. */
  readonly declarations: readonly ts.SignatureDeclaration[];
}

const program = createProgram();
const checker = program.getTypeChecker();
const callables = ENTRY_POINTS.flatMap(exportsOf).flatMap(callablesOf);
const classes = ENTRY_POINTS.flatMap(exportsOf).flatMap((symbol) =>
  (symbol.declarations ?? []).filter(ts.isClassDeclaration),
);

function createProgram(): ts.Program {
  const { config } = ts.readConfigFile(join(ROOT, 'tsconfig.build.json'), (path) => ts.sys.readFile(path));
  const { options } = ts.parseJsonConfigFileContent(config, ts.sys, ROOT);
  return ts.createProgram(ENTRY_POINTS, { ...options, noEmit: true });
}

function exportsOf(path: string): ts.Symbol[] {
  const file = program.getSourceFile(path);
  const module = file && checker.getSymbolAtLocation(file);
  if (!module) throw new Error(`${path} exports nothing`);
  return checker
    .getExportsOfModule(module)
    .map((symbol) => (symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol));
}

function callablesOf(symbol: ts.Symbol): Callable[] {
  const declarations = symbol.declarations ?? [];
  const functions = declarations.filter(ts.isFunctionDeclaration);
  const own = functions.length === 0 ? [] : [{ name: symbol.name, declarations: functions }];
  return [...own, ...declarations.filter(ts.isClassDeclaration).flatMap(membersOf)];
}

/** What Node.js calls, such as `_transform`, gives its errors to the stream. */
function membersOf({ name: className, members }: ts.ClassDeclaration): Callable[] {
  const callable = members.filter(isCallable).filter(isPublic);
  const names = new Set(callable.map(nameOf));
  return [...names]
    .filter((name) => !name.startsWith('_'))
    .map((name) => ({
      name: `${className?.text}.${name}`,
      declarations: callable.filter((member) => nameOf(member) === name),
    }));
}

function nameOf(member: ts.ClassElement): string {
  return member.name?.getText() ?? 'constructor';
}

function isCallable(node: ts.Node): node is ts.MethodDeclaration | ts.ConstructorDeclaration | ts.AccessorDeclaration {
  return ts.isMethodDeclaration(node) || ts.isConstructorDeclaration(node) || ts.isAccessor(node);
}

function isPublic(member: ts.ClassElement): boolean {
  if (member.name && ts.isPrivateIdentifier(member.name)) return false;
  if (ts.getCombinedModifierFlags(member) & ts.ModifierFlags.Private) return false;
  return ts.getJSDocTags(member).every(({ tagName }) => tagName.text !== 'internal');
}

function commentOf(node: ts.Node): string {
  return ts
    .getJSDocCommentsAndTags(node)
    .map((each) => each.getText())
    .join('\n');
}

/** The errors that the code throws, with those of the functions that it calls in the same file. What is caught is left out. */
function thrownBy(node: ts.Node, followed = new Set<ts.Node>()): string[] {
  if (ts.isTryStatement(node) && node.catchClause) {
    return [node.catchClause, node.finallyBlock].flatMap((part) => (part ? thrownBy(part, followed) : []));
  }
  const nested: string[] = [];
  ts.forEachChild(node, (child) => void nested.push(...thrownBy(child, followed)));
  if (ts.isThrowStatement(node) && ts.isNewExpression(node.expression)) {
    return [node.expression.expression.getText(), ...nested];
  }
  return ts.isCallExpression(node) ? [...thrownByCall(node, followed), ...nested] : nested;
}

function thrownByCall(call: ts.CallExpression, followed: Set<ts.Node>): string[] {
  const called = checker.getResolvedSignature(call)?.declaration;
  if (!called || followed.has(called)) return [];
  followed.add(called);
  if (called.getSourceFile().fileName === CHECKS) return ['InvalidOptionError'];
  return called.getSourceFile() === call.getSourceFile() && isFollowed(called) ? thrownBy(called.body, followed) : [];
}

/** Private, because what is public has a comment of its own. A generator runs when its values are taken, not when it is called. */
function isFollowed(node: ts.Node): node is WithBody {
  const isOwn = ts.isFunctionDeclaration(node) || (ts.isMethodDeclaration(node) && ts.isPrivateIdentifier(node.name));
  return isOwn && node.asteriskToken === undefined && node.body !== undefined;
}

function hasBody(node: ts.SignatureDeclaration): node is ts.SignatureDeclaration & WithBody {
  return 'body' in node && node.body !== undefined;
}

describe('the comment of each exported function and public method', () => {
  it('names the errors that it throws', () => {
    const missing = callables.flatMap(({ name, declarations }) => {
      const comment = declarations.map(commentOf).join('\n');
      const thrown = declarations.filter(hasBody).flatMap(({ body }) => thrownBy(body));
      return [...new Set(thrown)].filter((error) => !comment.includes(error)).map((error) => `${name}: ${error}`);
    });

    expect(callables.length).toBeGreaterThan(150);
    expect(missing).toEqual([]);
  });
});

describe('the comment of each class that an application creates or calls', () => {
  /** Made by the library, and read by the application. */
  const VALUES = new Set(['Receipt', 'RedisStreamsRecord', 'ShardAssignment', 'ShardOwnerDetails', 'StreamMessage']);

  it('has an example, or a method with one', () => {
    const hasExample = (node: ts.Node): boolean => commentOf(node).includes('@example');
    const without = new Set(
      classes.filter((node) => !hasExample(node) && !node.members.some(hasExample)).map(({ name }) => name?.text ?? ''),
    );

    expect([...without].filter((name) => !VALUES.has(name) && !name.endsWith('Error'))).toEqual([]);
  });
});
