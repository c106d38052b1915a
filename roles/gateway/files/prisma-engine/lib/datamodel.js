'use strict';

/**
 * What the translation needs to know of a Prisma schema: which model has which field, and of what type.
 *
 * The schema has been through `prisma generate` before it gets here, so this reads well-formed text, line by line as
 * Prisma's formatter writes it; it is no validator.
 */

const BLOCK = /^\s*(model|view|enum|generator|datasource|type)\s+(\w+)\s*\{/;
const BLOCK_END = /^\s*\}/;
const FIELD = /^\s*(\w+)\s+(\w+)/;

/**
 * @typedef {{type: string, isRelation: boolean}} Field
 * @typedef {Map<string, Field>} Model fields by name
 */

/**
 * @param {string} text a Prisma schema
 * @returns {Map<string, Model>} models (and views) by name
 */
function parseDatamodel(text) {
  const models = new Map();
  let current = null;
  for (const line of text.split('\n')) {
    const block = BLOCK.exec(line);
    if (block) {
      current = block[1] === 'model' || block[1] === 'view' ? new Map() : null;
      if (current) models.set(block[2], current);
    } else if (BLOCK_END.test(line)) {
      current = null;
    } else if (current && !line.trimStart().startsWith('//')) {
      const field = FIELD.exec(line);
      if (field) current.set(field[1], { type: field[2], isRelation: false });
    }
  }
  for (const model of models.values()) {
    for (const field of model.values()) field.isRelation = models.has(field.type);
  }
  return models;
}

/**
 * The same schema with a generator that the WebAssembly engine accepts: it insists on the preview feature under which
 * release 5.17 offered database drivers written in JavaScript, and knows nothing of prisma-client-py's options.
 *
 * @param {string} text a Prisma schema
 */
function forWasmEngine(text) {
  const kept = [];
  let inGenerator = false;
  for (const line of text.split('\n')) {
    if (BLOCK.exec(line)?.[1] === 'generator') inGenerator = true;
    if (!inGenerator) kept.push(line);
    if (inGenerator && BLOCK_END.test(line)) inGenerator = false;
  }
  return `generator client {\n  provider = "prisma-client-js"\n  previewFeatures = ["driverAdapters"]\n}\n${kept.join('\n')}`;
}

module.exports = { parseDatamodel, forWasmEngine };
