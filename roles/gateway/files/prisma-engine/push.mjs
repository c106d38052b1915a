// db push with the official WASM schema engine + pg adapter: node push.mjs <schema.prisma> <url> [--diff]
import fs from 'fs'; import {createRequire} from 'module'; const require=createRequire(import.meta.url);
import * as bg from './node_modules/@prisma/schema-engine-wasm/schema_engine_bg.js';
const {PrismaPg}=require('schema-adapter-pg'); const {bindMigrationAwareSqlAdapterFactory}=require('schema-adapter-utils');
const mod=new WebAssembly.Module(fs.readFileSync(new URL('./node_modules/@prisma/schema-engine-wasm/schema_engine_bg.wasm',import.meta.url)));
const inst=new WebAssembly.Instance(mod,{'./schema_engine_bg.js':bg}); bg.__wbg_set_wasm(inst.exports); inst.exports.__wbindgen_start?.();
const [file]=process.argv.slice(2); const url=process.env.DATABASE_URL; const mode=process.argv.includes('--check')?'--diff':'';
let content=fs.readFileSync(file,'utf8').replace(/^\s*url\s*=.*$/m,'');
const {SchemaEngine}=bg;
const pg=require('pg');
// adapter-pg does not know pg's internal "char" (oid 18) / "name" (19) types used by the schema describer: relabel them as text
const Result=require('pg/lib/result.js'); const oa=Result.prototype.addFields;
Result.prototype.addFields=function(fd){for(const f of fd)if(f.dataTypeID===18||f.dataTypeID===19)f.dataTypeID=25;return oa.call(this,fd)};
const pool=new pg.Pool({connectionString:url});
const factory=bindMigrationAwareSqlAdapterFactory(new PrismaPg(pool));
const eng=await SchemaEngine.new({datamodels:[[file,content]]},l=>{if(process.env.D)console.error(String(l))},factory);
const filters={externalTables:[],externalEnums:[]};
if(mode==='--diff'){const r=await eng.diff({from:{tag:'schemaDatasource',files:[{path:file,content}],configDir:'.'},to:{tag:'schemaDatamodel',files:[{path:file,content}]},script:true,shadowDatabaseUrl:null,exitCode:null,filters});console.log(r.stdout??r); if(!/empty migration/i.test(r.stdout)) process.exit(3);}
else{const r=await eng.schemaPush({force:process.argv.includes('--force'),schema:{files:[{path:file,content}]},filters});console.log(`${r.executedSteps} steps executed`);}
process.exit(0);
