from laglite.cli import main

main(prog_name="laglite")
