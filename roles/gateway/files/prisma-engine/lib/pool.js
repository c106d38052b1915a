'use strict';

/**
 * Connections to PostgreSQL: at most so many, handed out one user at a time, replaced by themselves after a restart.
 *
 * `pg`'s pool has one time limit for two waits, for a free connection and for the server to accept a new one. Prisma
 * has one for each (pool_timeout and connect_timeout) and a third per transaction (max_wait), so the waiting is done
 * here.
 */

const { Client, Pool } = require('pg');

const { ConnectFailure, PoolTimeout } = require('./errors');

class ConnectionPool {
  #pool;
  #waitMs;

  /** @param {ReturnType<import('./database-url').parseDatabaseUrl>} settings */
  constructor({ driver, connectionLimit, poolWaitMs }) {
    this.#waitMs = poolWaitMs;
    class EngineClient extends Client {
      constructor() {
        super(driver);
        // Without a listener the loss of a connection that is checked out but idle (inside a transaction, between two
        // queries) would end this process. The next query on it fails, and that failure is reported.
        this.on('error', () => {});
      }
    }
    this.#pool = new Pool({
      max: connectionLimit,
      idleTimeoutMillis: driver.idleTimeoutMillis,
      Client: EngineClient,
    });
    // An idle connection that the server closed has already been taken out of the pool when this is called.
    this.#pool.on('error', () => {});
    this.limit = connectionLimit;
  }

  /**
   * @param {number} [waitMs] how long to wait, at most; the URL's pool_timeout unless given, 0 for as long as it
   *   takes
   * @returns {Promise<import('pg').PoolClient>} a connection, to be given back with `release()`
   */
  async acquire(waitMs = this.#waitMs) {
    const connecting = this.#pool.connect().catch((cause) => {
      throw new ConnectFailure(cause.message, { cause });
    });
    if (waitMs === 0) return connecting;
    let timer;
    const timeout = new Promise((_resolve, reject) => {
      timer = setTimeout(() => reject(new PoolTimeout(`no connection was free within ${waitMs} ms`)), waitMs);
    });
    try {
      return await Promise.race([connecting, timeout]);
    } catch (error) {
      // A connection that comes too late goes to the next in line.
      if (error instanceof PoolTimeout)
        connecting.then(
          (client) => client.release(),
          () => {},
        );
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * @returns {{open: number, idle: number, busy: number, waiting: number}} connections now, and callers waiting for
   * one
   */
  get state() {
    const { totalCount: open, idleCount: idle, waitingCount: waiting } = this.#pool;
    return { open, idle, busy: open - idle, waiting };
  }

  /** Closes idle connections now and the others when they are given back. */
  async close() {
    await this.#pool.end();
  }
}

module.exports = { ConnectionPool };
