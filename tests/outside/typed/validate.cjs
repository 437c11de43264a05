// Prints the models of schema files, each field with its type. Prisma's own validator throws for a mistake.
const { readFileSync } = require("node:fs")
const { get_dmmf, validate } = require("@prisma/prisma-schema-wasm")

const prismaSchema = process.argv.slice(2).map((name) => [name, readFileSync(name, "utf-8")])
const parameters = JSON.stringify({ prismaSchema, noColor: true })
try {
  validate(parameters)
} catch (error) {
  console.error(error.message)
  process.exit(1)
}
const { models } = JSON.parse(get_dmmf(parameters)).datamodel
const fields = (model) => Object.fromEntries(model.fields.map((field) => [field.name, field.type]))
console.log(JSON.stringify(Object.fromEntries(models.map((model) => [model.name, fields(model)]))))
