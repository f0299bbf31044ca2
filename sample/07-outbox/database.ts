import { Logger } from '@nestjs/common';
import type { OnApplicationShutdown } from '@nestjs/common';
import Sqlite from 'libsql';
import { Pool } from 'pg';

/** Runs one statement, whose parameters are `$1`, `$2` and so on; resolves with its rows. */
export type Query = <Row>(sql: string, ...parameters: ReadonlyArray<string | number>) => Promise<Row[]>;

/** A SQL database, as far as this sample needs one. In yours this is TypeORM, Prisma, Drizzle or the driver itself. */
export abstract class Database implements OnApplicationShutdown {
  /** Type of a column that numbers the rows in the order in which they are inserted. */
  abstract readonly rowNumber: string;
  abstract readonly query: Query;

  /**
   * The statements of the work take effect together, or not at all when it rejects or the process dies. They are those that
   * it runs with its parameter: {@link query} would wait for the end of the transaction.
   */
  abstract transaction<T>(work: (query: Query) => Promise<T>): Promise<T>;

  /** Nest calls this after the last handler and the last HTTP request have ended. */
  abstract onApplicationShutdown(): Promise<void>;
}

/** @param url of a PostgreSQL database, otherwise the path of a SQLite file */
export function openDatabase(url: string): Database {
  return /^postgres(ql)?:/.test(url) ? new PostgresDatabase(url) : new SqliteDatabase(url);
}

class SqliteDatabase extends Database {
  readonly rowNumber = 'INTEGER PRIMARY KEY AUTOINCREMENT';
  readonly #connection: Sqlite.Database;
  /** Resolves when the work so far has ended: the connection has one transaction at a time. */
  #idle: Promise<unknown> = Promise.resolve();

  constructor(path: string) {
    super();
    // Longest wait for the lock of another process.
    this.#connection = new Sqlite(path, { timeout: 10_000 });
    this.#connection.exec('PRAGMA journal_mode = WAL');
  }

  readonly query: Query = (sql, ...parameters) => this.#inTurn(() => this.#run(sql, ...parameters));

  transaction<T>(work: (query: Query) => Promise<T>): Promise<T> {
    return this.#inTurn(async () => {
      this.#connection.exec('BEGIN IMMEDIATE');
      try {
        const result = await work(this.#run);
        this.#connection.exec('COMMIT');
        return result;
      } catch (error) {
        if (this.#connection.inTransaction) this.#connection.exec('ROLLBACK');
        throw error;
      }
    });
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#inTurn(async () => this.#connection.close());
  }

  readonly #run: Query = async <Row>(sql: string, ...parameters: ReadonlyArray<string | number>) =>
    this.#connection.prepare(sql).all(...parameters) as Row[];

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#idle.then(work);
    this.#idle = result.catch(() => undefined);
    return result;
  }
}

class PostgresDatabase extends Database {
  readonly rowNumber = 'bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY';
  readonly #pool: Pool;

  constructor(connectionString: string) {
    super();
    this.#pool = new Pool({ connectionString });
    // Of a connection that nothing uses; the pool replaces it. Without a listener it would end the process.
    this.#pool.on('error', (error) => new Logger('Database').warn(`a connection was lost: ${error.message}`));
  }

  readonly query: Query = async <Row>(sql: string, ...parameters: ReadonlyArray<string | number>) =>
    (await this.#pool.query(sql, [...parameters])).rows as Row[];

  async transaction<T>(work: (query: Query) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect();
    try {
      await client.query('BEGIN');
      const result = await work(async <Row>(sql: string, ...parameters: ReadonlyArray<string | number>) => {
        return (await client.query(sql, [...parameters])).rows as Row[];
      });
      await client.query('COMMIT');
      client.release();
      return result;
    } catch (error) {
      // Closed, not reused: the server rolls back, even where ROLLBACK could not be sent.
      client.release(true);
      throw error;
    }
  }

  async onApplicationShutdown(): Promise<void> {
    await this.#pool.end();
  }
}
